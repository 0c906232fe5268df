"""Reading attention next to a fast kernel: a tap on chosen attention modules, whatever the architecture.

Fast kernels do not return weights. transformers lets anyone register an attention function under a name. Ours passes
queries and keys (after rotary embedding) to the tap of the module, if one is attached, and then calls SDPA, or the
module's eager function where the user asked for that.
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

#: Attention implementations with taps, by their names for `attn_implementation`.
TAPPED_SDPA, TAPPED_EAGER = "stsimdiff_tapped_sdpa", "stsimdiff_tapped_eager"
_ATTRIBUTE = "_stsimdiff_tap"


class EnoughAttention(Exception):  # noqa: N818 (it is not an error: it ends a forward pass early)
    """Raised by a tap: the attention that was wanted has been read, the rest of the forward pass is not needed."""


#: (query (B, heads, q, d), key (B, kv heads, k, d), mask or None, scaling)
Tap = Callable[[Tensor, Tensor, Tensor | None, float], None]


def allow_taps(runtime: ResolvedRuntime) -> ResolvedRuntime:
    """The same runtime with an attention implementation that calls taps.

    RequestError for an implementation that has no such counterpart.
    """
    names = {"sdpa": TAPPED_SDPA, "eager": TAPPED_EAGER}
    if runtime.attention not in names:
        raise RequestError(
            f"Attention weights cannot be read with --attn {runtime.attention}.",
            "Leave out --attn, or use --attn sdpa or eager.",
        )
    return replace(runtime, attention=names[runtime.attention])


@contextmanager
def attach_tap(module: nn.Module, tap: Tap) -> Iterator[None]:
    """Within the block, an attention module of a model loaded with `allow_taps` calls `tap`."""
    setattr(module, _ATTRIBUTE, tap)
    try:
        yield
    finally:
        delattr(module, _ATTRIBUTE)


def _tapped_sdpa(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    _call_tap(module, query, key, attention_mask, kwargs.get("scaling"))
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)


def _tapped_eager(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, Tensor]:
    """The eager function of the module's own file, which is where transformers keeps it.

    Unlike SDPA it does not apply a causal order by itself, so where there is no mask, one is made here.
    """
    _call_tap(module, query, key, attention_mask, kwargs.get("scaling"))
    rows, columns = query.shape[2], key.shape[2]
    if attention_mask is None and rows > 1 and getattr(module, "is_causal", False):
        attention_mask = query.new_full((rows, columns), -torch.inf).triu(columns - rows + 1)
    elif rows == 1 and attention_mask is not None and attention_mask.shape[-1] != columns:
        attention_mask = None  # it has as many columns as layer 0 has keys; this layer has fewer after pruning
    eager = sys.modules[type(module).__module__].eager_attention_forward
    return eager(module, query, key, value, attention_mask, **kwargs)


def _call_tap(module: nn.Module, query: Tensor, key: Tensor, mask: Tensor | None, scaling: float | None) -> None:
    tap: Tap | None = getattr(module, _ATTRIBUTE, None)
    if tap is not None:
        tap(query, key, mask, query.shape[-1] ** -0.5 if scaling is None else scaling)


AttentionInterface.register(TAPPED_SDPA, _tapped_sdpa)
AttentionMaskInterface.register(TAPPED_SDPA, sdpa_mask)
AttentionInterface.register(TAPPED_EAGER, _tapped_eager)
AttentionMaskInterface.register(TAPPED_EAGER, eager_mask)


def last_query_attention(query: Tensor, key: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    """Attention of the last query to every key, mean over heads: (k,) float32, for batch size 1."""
    _, heads, _, width = query.shape
    groups = key.shape[1]
    q = query[0, :, -1].float().view(groups, heads // groups, width)
    logits = torch.einsum("ghd,gkd->ghk", q, key[0].float()) * scaling  # (groups, heads per group, k)
    if mask is not None:
        row = mask[0, 0, -1]
        logits = logits.masked_fill(~row, -torch.inf) if row.dtype == torch.bool else logits + row.float()
    return logits.softmax(-1).mean((0, 1))


def attention_received(query: Tensor, key: Tensor, _mask: Tensor | None, scaling: float) -> Tensor:
    """Attention that each key receives, mean over heads and queries: (B, k) float32, one sample at a time."""
    rows = []
    for q, k in zip(query.float(), key.float(), strict=True):  # (heads, n, d): memory stays that of one frame
        rows.append((q @ k.transpose(1, 2) * scaling).softmax(-1).mean((0, 1)))
    return torch.stack(rows)


def attention_from_first(query: Tensor, key: Tensor, _mask: Tensor | None, scaling: float) -> Tensor:
    """Attention of the first query, [CLS], to each key, mean over heads: (B, k) float32."""
    logits = query[:, :, :1].float() @ key.float().transpose(2, 3) * scaling  # (B, heads, 1, k)
    return logits.softmax(-1).mean((1, 2))


def attention_received_from(query: Tensor, key: Tensor, scaling: float, rows: Tensor, chunk: int = 128) -> Tensor:
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
