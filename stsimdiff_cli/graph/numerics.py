"""When two numbers count as equal and which are the highest: the rules that all methods share."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import StsimdiffError

#: Cosines (and centralities) closer than this are equal. It lies above the rounding error of float32 (6e-8 for the
#: weight of an edge, whose sums are in float64) and far below any threshold of interest, so that CPU, GPU and a plain
#: loop draw the same edges. Centralities stay in float64, accurate to about 1e-13.
RESOLUTION = 1e-6


def unit_slot(features: Tensor, slot: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Unit vectors (H, W, D) of one slot of `features` (T, H, W, D).

    A zero vector stays zero, so that its cosine with any other is 0.

    Raises StsimdiffError with the position if a feature is NaN or infinite.
    """
    x = features[slot].to(dtype)  # (H, W, D)
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)  # (H, W, 1)
    if not bool(torch.isfinite(norm).all()):
        refuse_non_finite(x, slot)
        x = x / x.abs().amax(dim=-1, keepdim=True).clamp_min(1)  # the squares overflowed: scale, then take the norm
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    tiny = norm < 1e-18  # the squares underflowed, or the vector is zero
    if bool(tiny.any()):
        largest = x.abs().amax(dim=-1, keepdim=True)
        x = torch.where(tiny & (largest > 0), x / largest, x)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / torch.where(norm > 0, norm, 1)


def refuse_non_finite(x: Tensor, slot: int) -> None:
    """Raise StsimdiffError with the position if a feature of the slot `x` (H, W, D) is NaN or infinite."""
    bad = (~torch.isfinite(x)).any(dim=-1).nonzero()
    if len(bad):
        row, column = bad[0].tolist()
        raise StsimdiffError(
            f"The token at slot {slot}, row {row}, column {column} holds a NaN or an infinite value.",
            "Encode the video again; with half precision, try --dtype bfloat16 or float32.",
        )


def at_resolution(score: Tensor) -> Tensor:
    """Scores as whole multiples of RESOLUTION, so that scores that differ by rounding alone are ties."""
    return torch.round(score.double() / RESOLUTION)


def stable_topk(score: Tensor, k: int) -> Tensor:
    """Positions (..., k) of the `k` highest values along the last dimension of `score` (..., n), highest first.

    Ties go to the lower position. There are only n positions if `k` is larger.
    """
    return torch.sort(score, dim=-1, descending=True, stable=True).indices[..., :k]


def ranks_in_groups(score: Tensor, group: Tensor) -> Tensor:
    """The place (N,) int64, from 0, of each token among the scores (N,) of its group (N,); ties go to the lower index.

    Groups are numbered from 0.
    """
    order = stable_topk(score, len(score))
    order = order[torch.sort(group[order], stable=True).indices]  # by group, then score, then index
    size = torch.bincount(group)
    start = torch.cumsum(size, 0) - size  # (G,)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(score), device=score.device) - start[group[order]]
    return rank


def top_by_score(score: Tensor, group: Tensor, quota: Tensor) -> Tensor:
    """(N,) bool: the `quota[g]` highest scores of every group g, a (G,) int64; ties go to the lower index.

    Scores (N,) are compared at RESOLUTION. `group` (N,) int64 numbers the groups from 0.
    """
    return ranks_in_groups(at_resolution(score), group) < quota[group]
