"""Intervals by the bootstrap over videos. The questions about one video are answered from the same tokens, so they are
not independent, and whole videos are drawn. All estimates of a report share their draws: differences are paired.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
#: Draws of the bootstrap, and the part of them that an interval holds.
DRAWS, LEVEL = 10_000, 0.95


@dataclass(frozen=True)
class Estimate:
    """A percentage with its interval; null where nothing was asked."""

    percent: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Accuracy:
    """Percent of questions answered rightly, with counts and interval."""

    right: int
    asked: int
    percent: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Bootstrap:
    """Draws of videos with replacement: weights (DRAWS, videos) say how often each video is in each draw."""

    weights: Numbers

    @classmethod
    def over(cls, videos: int, seed: int) -> Bootstrap:
        """The draws of a seed."""
        rng = np.random.default_rng([seed, videos])
        return cls(rng.multinomial(videos, np.full(videos, 1 / videos), size=DRAWS).astype(float))

    def percent(self, above: Numbers, below: Numbers) -> Estimate:
        """100 sum(above) / sum(below) over videos, with its percentile interval; null where nothing is below.

        Both (videos,). Draws in which nothing is below are left out.
        """
        total = below.sum()
        if not total:
            return Estimate(None, None, None)
        upper, lower = self.weights @ above, self.weights @ below
        drawn = upper[lower > 0] / lower[lower > 0]
        low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Estimate(100 * float(above.sum() / total), 100 * float(low), 100 * float(high))
