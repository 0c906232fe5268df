"""Vanilla: all tokens, the upper bound of every comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..ratio import Ratio
from ..records import Selection, VideoTokens
from .base import Llm, Method, Step, plain_selection


@dataclass(frozen=True)
class Vanilla(Method):
    """Keep every token, whatever the ratio is."""

    name: ClassVar[str] = "vanilla"
    streams: ClassVar[bool] = True
    by_segment: ClassVar[bool] = True
    keeps_all: ClassVar[bool] = True

    def select(self, tokens: VideoTokens, ratio: Ratio, llm: Llm, step: Step) -> Selection:  # noqa: ARG002
        """Choose all tokens."""
        return plain_selection(tokens, torch.arange(tokens.grid.tokens))
