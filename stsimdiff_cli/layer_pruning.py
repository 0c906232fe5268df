"""Methods that work inside the LLM: between its layers, while it reads the prompt.

The loop over layers is in `models/layers.py` and knows no method; a method sees what is here and knows no model.
The same pruner serves both forms: at ask time the LLM goes on with what is left, with shorter caches behind each cut;
at compress time the shallow layers run once on a recorded prompt and what is left is written to the file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class LayerAttention(Protocol):
    """Attention in one layer, over the visual tokens that are alive there (V of them)."""

    def last_query(self) -> Tensor:
        """What the last prompt token pays to each, mean over heads: (V,) float32."""

    def cross_and_self(self) -> tuple[Tensor, Tensor]:
        """What each receives, maximum over heads: mean over the text behind the video, mean over visual tokens.

        Both (V,) float32.
        """


@dataclass(frozen=True)
class LayerState:
    """A place in the LLM: layer (from 0) of `layers`, and the visual tokens there."""

    layer: int
    layers: int
    hidden: Tensor  # (V, D)


class Keep(NamedTuple):
    """What goes on: places (K,) among the V tokens, ascending, and their hidden states (K, D) where they change."""

    keep: Tensor
    hidden: Tensor | None = None


class LayerPruner(ABC):
    """One pass of one video through the LLM. `index` (V,) are the flat positions of the tokens that are alive.

    `group` (N,) says in which of them each token went, -1 for none. The loop over layers notes which tokens `entered`
    the attention of layer 0, and in `alive_per_layer` how many were left after each layer.
    """

    depth: int | None = None  # layers after which nothing more is cut; None if the pruner cannot say

    def __init__(self, tokens: int, budget: int) -> None:
        self.budget = budget
        self.index = torch.arange(tokens)
        self.merged_into = torch.arange(tokens)
        self.entered = self.index
        self.alive_per_layer: list[int] = []

    @property
    def finished(self) -> bool:
        """Nothing more will be cut."""
        return len(self.index) == self.budget

    def before(self, view: LayerState) -> Keep | None:  # noqa: ARG002
        """What to keep before a layer's attention; None for all."""
        return None

    @abstractmethod
    def after(self, view: LayerState, rows: LayerAttention) -> Keep | None:
        """What to keep after a layer's attention, before its feed-forward network; None for all."""

    def drop_to(self, keep: Tensor) -> Keep:
        """Go on with the tokens at places `keep` (ascending) alone."""
        alive = torch.zeros(len(self.merged_into) + 1, dtype=torch.bool)  # the last for tokens that went nowhere
        alive[self.index[keep.cpu()]] = True
        self.merged_into = torch.where(alive[self.merged_into], self.merged_into, -1)
        self.index = self.index[keep.cpu()]
        return Keep(keep)

    def best(self, score: Tensor, count: int) -> Tensor:
        """Places of the `count` highest scores, ascending; ties to the lower place."""
        return torch.sort(score, descending=True, stable=True).indices[:count].sort().values
