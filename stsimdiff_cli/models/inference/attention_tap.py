"""Attention weights beside a fast kernel: a tap on chosen attention modules, whatever the architecture.

Fast kernels return no weights. transformers lets anybody register an attention function by name; ours hands queries
and keys (after rotary embedding) to a tap that was attached to the module, if any, and then calls SDPA, or the eager
kernel for whoever asked for that.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask

from ...errors import RequestError
from ..loading.runtime import ResolvedRuntime

#: Name of the attention implementation: pass it as `attn_implementation` when loading.
PROBED = "stsimdiff_probed"
_PROBED_EAGER = "stsimdiff_probed_eager"
_TAP = "_stsimdiff_tap"

#: (query (B, heads, q, d), key (B, kv heads, k, d), mask or None, scaling)
Tap = Callable[[Tensor, Tensor, Tensor | None, float], None]


def tapping(runtime: ResolvedRuntime) -> ResolvedRuntime:
    """The same runtime with an implementation that taps can listen to; RequestError if it hides what a tap needs."""
    names = {"sdpa": PROBED, "eager": _PROBED_EAGER}
    if runtime.attention not in names:
        raise RequestError(
            f"Attention weights cannot be read with --attn {runtime.attention}.",
            "Leave out --attn, or use --attn sdpa or eager.",
        )
    return replace(runtime, attention=names[runtime.attention])


def _probed_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    _hand_over(module, query, key, attention_mask, kwargs.get("scaling"))
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)


def _probed_eager(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, Tensor]:
    """The eager kernel of the module's own file, which is where transformers keeps it.

    Unlike SDPA it has no causal order of its own, so where no mask comes with the tokens it is written here.
    """
    _hand_over(module, query, key, attention_mask, kwargs.get("scaling"))
    rows, columns = query.shape[2], key.shape[2]
    if attention_mask is None and rows > 1 and getattr(module, "is_causal", False):
        attention_mask = query.new_full((rows, columns), -torch.inf).triu(columns - rows + 1)
    elif rows == 1:  # a mask has as many columns as the first layer has keys, of which tokens may have been cut here
        attention_mask = None
    eager = sys.modules[type(module).__module__].eager_attention_forward
    return eager(module, query, key, value, attention_mask, **kwargs)


def _hand_over(module: nn.Module, query: Tensor, key: Tensor, mask: Tensor | None, scaling: float | None) -> None:
    tap: Tap | None = getattr(module, _TAP, None)
    if tap is not None:
        tap(query, key, mask, query.shape[-1] ** -0.5 if scaling is None else scaling)


AttentionInterface.register(PROBED, _probed_attention)
AttentionMaskInterface.register(PROBED, sdpa_mask)
AttentionInterface.register(_PROBED_EAGER, _probed_eager)
AttentionMaskInterface.register(_PROBED_EAGER, eager_mask)


@contextmanager
def tapped(module: nn.Module, tap: Tap) -> Iterator[None]:
    """Attach `tap` to an attention module of a model loaded with `attn_implementation=PROBED`."""
    setattr(module, _TAP, tap)
    try:
        yield
    finally:
        delattr(module, _TAP)


def last_row(query: Tensor, key: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    """Attention of the last query to every key, mean over heads: (k,) float32, for batch size 1."""
    _, heads, _, width = query.shape
    groups = key.shape[1]
    q = query[0, :, -1].float().view(groups, heads // groups, width)
    logits = torch.einsum("ghd,gkd->ghk", q, key[0].float()) * scaling  # (groups, heads per group, k)
    if mask is not None:
        row = mask[0, 0, -1]
        logits = logits.masked_fill(~row, -torch.inf) if row.dtype == torch.bool else logits + row.float()
    return logits.softmax(-1).mean((0, 1))


def received(query: Tensor, key: Tensor, _mask: Tensor | None, scaling: float) -> Tensor:
    """Attention that each key receives, mean over heads and queries: (B, k) float32, one sample at a time."""
    rows = []
    for q, k in zip(query.float(), key.float(), strict=True):  # (heads, n, d): memory stays that of one frame
        rows.append((q @ k.transpose(1, 2) * scaling).softmax(-1).mean((0, 1)))
    return torch.stack(rows)


def rows_received(query: Tensor, key: Tensor, scaling: float, rows: Tensor, chunk: int = 128) -> Tensor:
    """Causal attention that each key receives from the queries `rows` (R,): maximum over heads, then mean over rows.

    (k,) float32, for batch size 1 and as many queries as keys; `chunk` rows at a time.
    """
    _, heads, length, width = query.shape
    groups = key.shape[1]
    q = query[0].float().view(groups, heads // groups, length, width)
    k = key[0].float()
    column = torch.arange(length, device=key.device)
    total = torch.zeros(length, device=key.device)
    for part in rows.split(chunk):
        logits = torch.einsum("ghrd,gkd->ghrk", q[:, :, part], k) * scaling
        logits = logits.masked_fill(column > part[:, None], -torch.inf)
        total += logits.softmax(-1).flatten(0, 1).amax(0).sum(0)
    return total / max(len(rows), 1)
