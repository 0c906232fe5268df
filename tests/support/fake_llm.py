"""A stand-in for the LLM that a method asks: attention from a formula, hidden states from a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from stsimdiff_cli.layer_pruning import Keep, LayerPruner, LayerState

Attention = Callable[[Tensor, int], Tensor]


@dataclass
class FakeAttention:
    """The attention that the tokens `index` receive in a layer."""

    index: Tensor
    layer: int
    attention: Attention

    def last_query(self) -> Tensor:
        return self.attention(self.index, self.layer)

    def cross_and_self(self) -> tuple[Tensor, Tensor]:
        return self.attention(self.index, self.layer), self.attention(self.index + 1, self.layer)


@dataclass
class FakeLlm:
    """attention(index, layer) -> (C,); hidden(layer) -> (N, D) before each layer, noise if not given."""

    attention: Attention
    layers: int = 4
    hidden: Callable[[int], Tensor] | None = None
    seen: list[int] = field(default_factory=list)  # tokens alive after each layer

    def importance(self, index: Tensor, layer: int) -> Tensor:
        return self.attention(index, layer)

    def prefill(self, pruner: LayerPruner) -> None:
        """The loop of layer_loop.py without a model: hidden states do not depend on what was pruned before."""
        if pruner.finished:
            return
        merged: dict[int, Any] = {}
        for layer in range(self.layers):
            if pruner.finished:
                return
            states = self._states(pruner, layer, merged)
            self._note(pruner, pruner.before(LayerState(layer, self.layers, states)), states, merged)
            if layer == 0:
                pruner.entered = pruner.index
            states = self._states(pruner, layer, merged)
            attention = FakeAttention(pruner.index, layer, self.attention)
            self._note(pruner, pruner.after(LayerState(layer, self.layers, states), attention), states, merged)
            self.seen.append(len(pruner.index))

    def _states(self, pruner: LayerPruner, layer: int, merged: dict[int, Any]) -> Tensor:
        if self.hidden is None:
            chance = torch.Generator().manual_seed(layer)
            table = torch.randn((len(pruner.merged_into), 8), generator=chance)
        else:
            table = self.hidden(layer).clone()
        for place, state in merged.items():
            table[place] = state
        return table[pruner.index]

    @staticmethod
    def _note(pruner: LayerPruner, kept: Keep | None, states: Tensor, merged: dict[int, Any]) -> None:
        """A state that merging has changed stays as it is, whatever the tables of later layers say."""
        if kept is None or kept.hidden is None:
            return
        rows = torch.arange(len(kept.keep)) if kept.changed is None else kept.changed
        places, before = pruner.index[rows].tolist(), states[kept.keep[rows]]
        for place, old, new in zip(places, before, kept.hidden, strict=True):
            if not torch.equal(old, new):
                merged[place] = new


def ties(index: Tensor, layer: int) -> Tensor:
    """Attention with many ties."""
    return (index * 7 % 5).float() / 5


def not_declared(index: Tensor, layer: int) -> Tensor:
    raise AssertionError("the LLM was asked for by a method that does not need it")
