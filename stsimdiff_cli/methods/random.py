"""Random: a uniform draw without replacement, a strong control that every comparison needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..errors import RequestError
from ..ratio import Ratio
from ..records import Selection, VideoTokens
from .base import Llm, Method, Step, parameter, plain_selection


@dataclass(frozen=True)
class Random(Method):
    """Keep ceil(r N) tokens drawn uniformly without replacement, in raster order."""

    name: ClassVar[str] = "random"
    streams: ClassVar[bool] = True

    seed: int = parameter(0, "seed of the draw")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.seed < 2**63:
            raise RequestError(f"seed must be at least 0 and below 2^63, got {self.seed}.", "The default is 0.")

    def select(self, tokens: VideoTokens, ratio: Ratio, llm: Llm, step: Step) -> Selection:  # noqa: ARG002
        """Choose ceil(r N) tokens."""
        generator = torch.Generator().manual_seed(self.seed)
        drawn = torch.randperm(tokens.grid.tokens, generator=generator)[: ratio.budget(tokens.grid.tokens)]
        return plain_selection(tokens, drawn.sort().values)
