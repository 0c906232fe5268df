"""The LLM's layers one by one, with room between them for pruning visual tokens.

What is computed is what transformers' decoder layers compute (norm, attention, feed-forward network, each with its
residual, and in some a norm of what is added), so the kernel and the cache are those that they use; only the order of
calls is ours. Pruned tokens leave the hidden states, the rotary positions and the caches of all later layers; tokens
after them keep their positions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import Cache

from ...errors import ModelError
from ...layer_pruning import Keep, LayerPruner, LayerState
from .attention_tap import EnoughAttention, attach_tap, attention_received_from, last_query_attention

#: Norms of what attention and network give, before it is added, by transformers' names; most LLMs have none (GLM has).
_AFTER_ATTENTION, _AFTER_NETWORK = "post_self_attn_layernorm", "post_mlp_layernorm"
#: All parts that a layer may have.
_PARTS = {
    "input_layernorm",
    "self_attn",
    _AFTER_ATTENTION,
    "post_attention_layernorm",
    "mlp",
    _AFTER_NETWORK,
}


def run_layers(
    text: Any,
    hidden: Tensor,
    rotary: tuple[Tensor, Tensor],
    visual: Tensor,
    pruner: LayerPruner,
    cache: Cache | None,
    deepstack: Tensor | None = None,
) -> Tensor:
    """Run a whole prompt through the layers of a text model, pruning where `pruner` says: (1, L', D), before the norm.

    text is a decoder of transformers, loaded with `allow_taps`. hidden (1, L, D) are the prompt's embeddings, rotary
    the cosines and sines of all L positions, visual (L,) bool, deepstack (N, K, D) what is added to the N visual
    tokens after the first K layers. The model is one that `check_layers` accepts.

    Without a cache the run ends when the pruner is finished, and nothing is computed that the pruner does not read.
    """
    state = _PromptState(hidden, rotary, visual, deepstack)
    for number, layer in enumerate(text.layers):
        state.keep(pruner.before(state.view(number, len(text.layers))))
        if number == 0:
            pruner.entered = pruner.index
        if cache is None and pruner.finished:
            break
        attention = _TappedAttention(state.visual)
        ahead = None
        if cache is None and pruner.attention_only:
            ahead = _Ahead(pruner, state.view(number, len(text.layers)), attention)
        try:
            with attach_tap(layer.self_attn, (ahead or attention).tap):
                mixed, _ = layer.self_attn(
                    hidden_states=layer.input_layernorm(state.hidden),
                    attention_mask=None,  # one sequence without padding: the kernel's own causal order
                    position_embeddings=state.rotary,
                    past_key_values=cache,
                )
        except EnoughAttention:
            break
        state.hidden = state.hidden + _normed(layer, _AFTER_ATTENTION, mixed)
        state.keep(ahead.choice if ahead else pruner.after(state.view(number, len(text.layers)), attention))
        if cache is None and pruner.finished:
            break
        changed = layer.mlp(layer.post_attention_layernorm(state.hidden))
        state.hidden = state.hidden + _normed(layer, _AFTER_NETWORK, changed)
        state.add_deepstack(number)
        pruner.alive_per_layer.append(int(state.visual.sum()))
    return state.hidden


def check_layers(text: Any, causal: bool) -> None:
    """ModelError for an LLM whose layers compute something else than this loop, e.g. attend to a part of the prompt.

    `causal` is what `Family` says.
    """
    types = set(getattr(text.config, "layer_types", None) or ["full_attention"])
    if types != {"full_attention"}:
        reason = f"it has layers of type {', '.join(sorted(types))}"
    elif not causal:
        reason = "some of its tokens see later ones"
    elif others := {name for layer in text.layers for name, _ in layer.named_children()} - _PARTS:
        reason = f"its layers have parts that are not known here ({', '.join(sorted(others))})"
    else:
        return
    raise ModelError(
        f"Tokens cannot be pruned inside this LLM: {reason}.",
        "Compress first, with a method that does not work inside the LLM (see `stsimdiff methods`), then ask.",
    )


def _normed(layer: Any, norm: str, values: Tensor) -> Tensor:
    """The values that a part of a layer adds, after a norm of their own where the layer has one."""
    return getattr(layer, norm)(values) if hasattr(layer, norm) else values


class _PromptState:
    """The prompt between two layers: what is left of it, and where it stands."""

    def __init__(self, hidden: Tensor, rotary: tuple[Tensor, Tensor], visual: Tensor, deepstack: Tensor | None) -> None:
        self.hidden = hidden  # (1, L, D)
        self.rotary = rotary
        self.visual = visual  # (L,) bool
        self.deepstack = deepstack  # (V, K, D), of the V visual tokens that are alive

    def view(self, layer: int, layers: int) -> LayerState:
        """What a pruner sees of it."""
        return LayerState(layer, layers, self.hidden[0, self.visual])

    def keep(self, choice: Keep | None) -> None:
        """Drop all visual tokens but those chosen; text always stays. None keeps everything."""
        if choice is None:
            return
        places = self.visual.nonzero().squeeze(1)
        kept = choice.keep.to(places.device)
        stays = ~self.visual
        stays[places[kept]] = True
        self.hidden = self.hidden[:, stays]  # a copy
        cos, sin = (table[..., stays, :] for table in self.rotary)
        self.rotary = (cos, sin)
        self.visual = self.visual[stays]
        if choice.hidden is not None:
            places = self.visual.nonzero().squeeze(1)
            changed = places if choice.changed is None else places[choice.changed.to(places.device)]
            self.hidden[0, changed] = choice.hidden.to(self.hidden.dtype)
        if self.deepstack is not None:
            self.deepstack = self.deepstack[kept.to(self.deepstack.device)]

    def add_deepstack(self, layer: int) -> None:
        """Add the deepstack features that belong after this layer, if there are any."""
        if self.deepstack is None or layer >= self.deepstack.shape[1]:
            return
        self.hidden = self.hidden.clone()
        self.hidden[0, self.visual] += self.deepstack[:, layer].to(self.hidden.dtype)


class _TappedAttention:
    """A layer_pruning.LayerAttention: computed when a method asks for it, from one layer's queries and keys."""

    def __init__(self, visual: Tensor) -> None:
        self.visual = visual  # (L,) bool

    def tap(self, query: Tensor, key: Tensor, mask: Tensor | None, scaling: float) -> None:
        """Keep what the layer's attention computes with."""
        self.query, self.key, self.mask, self.scaling = query, key, mask, scaling

    def last_query(self) -> Tensor:
        """See LayerAttention."""
        return last_query_attention(self.query, self.key, self.mask, self.scaling)[self.visual]

    def cross_and_self(self) -> tuple[Tensor, Tensor]:
        """See LayerAttention."""
        places = self.visual.nonzero().squeeze(1)
        text = torch.arange(int(places[-1]) + 1, len(self.visual), device=places.device)
        cross, own = (
            attention_received_from(self.query, self.key, self.scaling, rows)[places] for rows in (text, places)
        )
        return cross, own


class _Ahead:
    """Asks a pruner while the layer's attention is about to be computed, and ends the layer if that was all."""

    def __init__(self, pruner: LayerPruner, state: LayerState, attention: _TappedAttention) -> None:
        self.pruner, self.state, self.attention = pruner, state, attention
        self.choice: Keep | None = None

    def tap(self, query: Tensor, key: Tensor, mask: Tensor | None, scaling: float) -> None:
        """Raise EnoughAttention if the pruner is finished with this layer's queries and keys."""
        self.attention.tap(query, key, mask, scaling)
        self.choice = self.pruner.after(self.state, self.attention)
        if self.pruner.finished:
            raise EnoughAttention
