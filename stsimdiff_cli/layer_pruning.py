"""Pruning inside the LLM: between its layers, while it reads the prompt.

The loop over the layers is in `models/inference/layer_loop.py` and knows no method. A method sees the records below and
knows no model. The same pruner serves two purposes:

- `ask --inside`: the LLM continues with the tokens that are left, with shorter caches after each pruning layer.
- `compress`: the first layers run once on a recorded prompt, and the tokens that are left are written to the file.

Letters: N visual tokens of the video, V of them alive at some layer, K kept there, D width of the LLM.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from .graph.numerics import stable_topk


class LayerAttention(Protocol):
    """Attention in one layer to the V visual tokens that are alive there."""

    def last_query(self) -> Tensor:
        """Attention from the last prompt token to each visual token, mean over heads: (V,) float32."""

    def cross_and_self(self) -> tuple[Tensor, Tensor]:
        """Attention that each visual token receives, maximum over heads.

        From the text after the video (mean over text tokens) and from the visual tokens (mean over those): two tensors
        (V,) float32.
        """


@dataclass(frozen=True)
class LayerState:
    """A position in the LLM: layer `layer` (from 0) of `layers`, and the hidden states of the visual tokens there."""

    layer: int
    layers: int
    hidden: Tensor  # (V, D)


class Keep(NamedTuple):
    """The visual tokens that stay: their places `keep` (K,) among the V, ascending, and their new hidden states.

    `hidden` is (K, D), or (C, D) if only the tokens number `changed` (C,) of the K have new ones; None: none have.
    """

    keep: Tensor
    hidden: Tensor | None = None
    changed: Tensor | None = None


class LayerPruner(ABC):
    """One pass of one video through the LLM.

    `index` (V,) holds the flat positions of the tokens that are alive. `merged_into` (N,) says for every token of the
    video into which of them it went, -1 if it was dropped. The loop over layers records in `entered` the tokens that
    took part in the attention of layer 0, and in `alive_per_layer` how many were left after each layer.
    """

    depth: int | None = None  # number of layers after which nothing more is pruned; None if that is not known ahead
    #: `after` reads attention and no hidden states: without a cache, the loop ends at the last attention that is read.
    attention_only: bool = False

    def __init__(self, tokens: int, budget: int) -> None:
        self.budget = budget
        self.index = torch.arange(tokens)
        self.merged_into = torch.arange(tokens)
        self.entered = self.index
        self.alive_per_layer: list[int] = []

    @property
    def finished(self) -> bool:
        """Whether the budget is reached, so that nothing more will be pruned."""
        return len(self.index) == self.budget

    def before(self, state: LayerState) -> Keep | None:  # noqa: ARG002
        """What to keep before a layer's attention; None for everything."""
        return None

    @abstractmethod
    def after(self, state: LayerState, attention: LayerAttention) -> Keep | None:
        """What to keep after a layer's attention and before its feed-forward network; None for everything."""

    def drop_to(self, keep: Tensor) -> Keep:
        """Continue with the tokens at places `keep` (K,), ascending, and no others."""
        alive = torch.zeros(len(self.merged_into) + 1, dtype=torch.bool)  # the last for tokens already dropped
        alive[self.index[keep.cpu()]] = True
        self.merged_into = torch.where(alive[self.merged_into], self.merged_into, -1)
        self.index = self.index[keep.cpu()]
        return Keep(keep)

    def best(self, score: Tensor, count: int) -> Tensor:
        """Places (count,) of the highest of the scores (V,), ascending; ties go to the lower place."""
        return stable_topk(score, count).sort().values
