"""Intervals by the bootstrap over clips. The questions of one clip are answered from the same tokens, so they are not
independent, and whole clips are drawn. All estimates of a report share their draws: differences are paired.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
#: Draws of the bootstrap, and the part of them that an interval holds.
DRAWS, LEVEL = 10_000, 0.95


@dataclass(frozen=True)
class Bootstrap:
    """Draws of clips with replacement: weights (DRAWS, clips) say how often each clip is in each draw."""

    weights: Numbers

    @classmethod
    def over(cls, clips: int, seed: int) -> Bootstrap:
        """The draws of a seed."""
        rng = np.random.default_rng([seed, clips])
        return cls(rng.multinomial(clips, np.full(clips, 1 / clips), size=DRAWS).astype(float))

    def ratio(self, above: Numbers, below: Numbers) -> dict[str, float | None]:
        """sum(above) / sum(below) over clips, with its percentile interval; null where nothing is below.

        Both (clips,). Draws in which nothing is below are left out.
        """
        total = below.sum()
        if not total:
            return {"value": None, "low": None, "high": None}
        upper, lower = self.weights @ above, self.weights @ below
        drawn = upper[lower > 0] / lower[lower > 0]
        low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return {"value": float(above.sum() / total), "low": float(low), "high": float(high)}


def percent(estimate: dict[str, float | None]) -> dict[str, float | None]:
    """A ratio in percent."""
    names = {"value": "percent", "low": "low", "high": "high"}
    return {names[key]: None if value is None else 100 * value for key, value in estimate.items()}


def accuracy(bootstrap: Bootstrap, right: Numbers, asked: Numbers) -> dict[str, Any]:
    """Percent of questions answered rightly, with counts and interval."""
    return {"right": int(right.sum()), "asked": int(asked.sum())} | percent(bootstrap.ratio(right, asked))
