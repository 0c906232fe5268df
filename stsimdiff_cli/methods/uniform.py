"""Uniform: evenly spaced tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..ratio import Ratio
from ..records import Selection, VideoTokens
from .base import Llm, Method, Step, plain_selection


@dataclass(frozen=True)
class Uniform(Method):
    """Keep M = ceil(r N) evenly spaced tokens in raster order: floor((2 i + 1) N / 2 M) for i = 0 .. M-1."""

    name: ClassVar[str] = "uniform"
    streams: ClassVar[bool] = True
    by_segment: ClassVar[bool] = True

    def select(self, tokens: VideoTokens, ratio: Ratio, llm: Llm, step: Step) -> Selection:  # noqa: ARG002
        """Choose ceil(r N) tokens."""
        kept = ratio.budget(tokens.grid.tokens)
        return plain_selection(tokens, (2 * torch.arange(kept) + 1) * tokens.grid.tokens // (2 * kept))
