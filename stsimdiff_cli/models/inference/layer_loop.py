"""The LLM's layers one by one, with room between them for cutting visual tokens.

The sums are those of transformers' decoder layers (norm, attention, feed-forward network, each with its residual), so
that whatever kernel and cache they use is used here too; only the order of calls is ours. Tokens that are cut leave
the hidden states, the rotary positions and the caches of all later layers; those behind them keep their positions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import Cache

from ...errors import ModelError
from ...layer_pruning import Keep, LayerPruner, LayerState
from .attention_tap import last_row, rows_received, tapped


def run_layers(
    text: Any,
    hidden: Tensor,
    rotary: tuple[Tensor, Tensor],
    visual: Tensor,
    pruner: LayerPruner,
    cache: Cache | None,
    deepstack: Tensor | None = None,
) -> Tensor:
    """Run a whole prompt through the layers of a text model, cutting where `pruner` says: (1, L', D), before the norm.

    text is a decoder of transformers loaded with `attn_implementation=PROBED`, hidden (1, L, D) are the prompt's
    embeddings, rotary the cosines and sines of all L positions, visual (L,) bool, deepstack (N, K, D) what is added to
    the N visual tokens behind the first K layers. Without a cache the run ends when the pruner is finished. ModelError
    for a model some of whose layers do not see the whole prompt.
    """
    kinds = set(getattr(text.config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        raise ModelError(
            f"Tokens cannot be cut inside this LLM: it has {', '.join(sorted(kinds))}.", "Compress first, then ask."
        )
    state = _State(hidden, rotary, visual, deepstack)
    for number, layer in enumerate(text.layers):
        if cache is None and pruner.finished:
            break
        state.cut(pruner.before(state.view(number, len(text.layers))))
        if number == 0:
            pruner.entered = pruner.index
        taken = _Taken()
        with tapped(layer.self_attn, taken.keep):
            mixed, _ = layer.self_attn(
                hidden_states=layer.input_layernorm(state.hidden),
                attention_mask=None,  # one sequence without padding: the kernel's own causal order
                position_embeddings=state.rotary,
                past_key_values=cache,
            )
        state.hidden = state.hidden + mixed
        taken.visual = state.visual
        state.cut(pruner.after(state.view(number, len(text.layers)), taken))
        state.hidden = state.hidden + layer.mlp(layer.post_attention_layernorm(state.hidden))
        state.deepen(number)
        pruner.alive_per_layer.append(int(state.visual.sum()))
    return state.hidden


class _State:
    """What the next layer will see."""

    def __init__(self, hidden: Tensor, rotary: tuple[Tensor, Tensor], visual: Tensor, deepstack: Tensor | None) -> None:
        self.hidden = hidden
        self.rotary = rotary
        self.visual = visual
        self.deepstack = deepstack  # of the visual tokens that are alive

    def view(self, layer: int, layers: int) -> LayerState:
        return LayerState(layer, layers, self.hidden[0, self.visual])

    def cut(self, cut: Keep | None) -> None:
        """Leave out visual tokens; text always stays."""
        if cut is None:
            return
        places = self.visual.nonzero().squeeze(1)
        keep = cut.keep.to(places.device)
        stays = ~self.visual
        stays[places[keep]] = True
        if cut.hidden is not None:
            self.hidden = self.hidden.clone()
            self.hidden[0, places[keep]] = cut.hidden.to(self.hidden.dtype)
        self.hidden = self.hidden[:, stays]
        cos, sin = (table[..., stays, :] for table in self.rotary)
        self.rotary = (cos, sin)
        self.visual = self.visual[stays]
        if self.deepstack is not None:
            self.deepstack = self.deepstack[keep.to(self.deepstack.device)]

    def deepen(self, layer: int) -> None:
        """Add what belongs behind this layer."""
        if self.deepstack is None or layer >= self.deepstack.shape[1]:
            return
        self.hidden = self.hidden.clone()
        self.hidden[0, self.visual] += self.deepstack[:, layer].to(self.hidden.dtype)


class _Taken:
    """Queries and keys of one layer, and the attention that methods ask for (inside.Rows)."""

    visual: Tensor

    def keep(self, query: Tensor, key: Tensor, mask: Tensor | None, scaling: float) -> None:
        self.query, self.key, self.mask, self.scaling = query, key, mask, scaling

    def last_query(self) -> Tensor:
        return last_row(self.query, self.key, self.mask, self.scaling)[self.visual]

    def cross_and_self(self) -> tuple[Tensor, Tensor]:
        places = self.visual.nonzero().squeeze(1)
        text = torch.arange(int(places[-1]) + 1, len(self.visual), device=places.device)
        cross, own = (rows_received(self.query, self.key, self.scaling, rows)[places] for rows in (text, places))
        return cross, own
