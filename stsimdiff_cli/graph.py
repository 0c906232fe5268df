"""The spatio-temporal graph of ST-SimDiff as pure tensor functions: edges, communities, centrality.

Everything costs O(N D) time: features are read slot by slot, the weights of edges are taken in float32, and no pairwise
matrix is ever built. Nodes are flat positions t H W + h W + w.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import StsimdiffError

#: Cosines (and centralities) closer than this are equal: it lies above the rounding of float32 sums over thousands of
#: channels and far below any threshold of interest, so that CPU, GPU and a plain loop draw the same edges.
RESOLUTION = 1e-6


@dataclass(frozen=True)
class Edges:
    """Cosine weights (Eq. 3) of the edges of Eq. 1 and Eq. 2, float32, filed under their earlier node."""

    right: Tensor  # (T, H, W-1) to the neighbour in the next column
    down: Tensor  # (T, H-1, W) to the neighbour in the next row
    later: Tensor  # (T-1, H, W) to the same cell in the next slot

    @property
    def shape(self) -> tuple[int, int, int]:
        """The grid (T, H, W)."""
        return self.down.shape[0], self.right.shape[1], self.down.shape[2]


def unit_slot(features: Tensor, slot: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Unit vectors of one slot (H, W, D); a zero vector stays zero, so that its cosine with any other is 0.

    Raises StsimdiffError with the position if a feature is NaN or infinite.
    """
    x = features[slot].to(dtype)  # (H, W, D)
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)  # (H, W, 1)
    if not bool(torch.isfinite(norm).all()):
        _refuse_non_finite(x, slot)
        x = x / x.abs().amax(dim=-1, keepdim=True).clamp_min(1)  # the squares overflowed: scale, then take the norm
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    tiny = norm < 1e-18  # the squares underflowed, or the vector is zero
    if bool(tiny.any()):
        largest = x.abs().amax(dim=-1, keepdim=True)
        x = torch.where(tiny & (largest > 0), x / largest, x)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / torch.where(norm > 0, norm, 1)


def _refuse_non_finite(x: Tensor, slot: int) -> None:
    bad = (~torch.isfinite(x)).any(dim=-1).nonzero()
    if len(bad):
        row, column = bad[0].tolist()
        raise StsimdiffError(
            f"The token at slot {slot}, row {row}, column {column} holds a NaN or an infinite value.",
            "Encode the video again; with half precision, try --dtype bfloat16 or float32.",
        )


def edge_weights(features: Tensor) -> Edges:
    """Cosine of every spatial and temporal pair of neighbours (Eq. 1 to 3) of `features` (T, H, W, D)."""
    slots, rows, columns, _ = features.shape
    right = features.new_empty((slots, rows, max(columns - 1, 0)), dtype=torch.float32)
    down = features.new_empty((slots, max(rows - 1, 0), columns), dtype=torch.float32)
    later = features.new_empty((max(slots - 1, 0), rows, columns), dtype=torch.float32)
    previous = None
    for t in range(slots):
        x = unit_slot(features, t)  # (H, W, D)
        right[t] = (x[:, :-1] * x[:, 1:]).sum(-1)
        down[t] = (x[:-1] * x[1:]).sum(-1)
        if previous is not None:
            later[t - 1] = (previous * x).sum(-1)
        previous = x
    return Edges(right, down, later)


def strong_edges(edges: Edges, tau_sim: float, spatial: bool = True, temporal: bool = True) -> tuple[Tensor, Tensor]:
    """The thresholded graph G' of section 4.3: edges (2, E) int64 with weight > tau_sim, and their weights (E,)."""
    slots, rows, columns = edges.shape
    device = edges.later.device
    node = torch.arange(slots * rows * columns, device=device).view(slots, rows, columns)
    groups = []
    if spatial:
        groups += [(edges.right, node[:, :, :-1], 1), (edges.down, node[:, :-1], columns)]
    if temporal:
        groups += [(edges.later, node[:-1], rows * columns)]
    ends = [torch.empty((2, 0), dtype=torch.int64, device=device)]
    weights = [torch.empty(0, device=device)]
    for weight, start, stride in groups:
        keep = weight > tau_sim + RESOLUTION
        ends.append(torch.stack([start[keep], start[keep] + stride]))
        weights.append(weight[keep])
    return torch.cat(ends, dim=1), torch.cat(weights)


def event_mask(edges: Edges, threshold: float) -> Tensor:
    """(T, H, W) bool: the later tokens of temporal edges with weight < threshold (Eq. 6)."""
    slots, rows, columns = edges.shape
    mask = torch.zeros((slots, rows, columns), dtype=torch.bool, device=edges.later.device)
    mask[1:] = edges.later < threshold - RESOLUTION
    return mask


def percentile_threshold(edges: Edges, percent: float) -> float:
    """The tau_diff of section 4.4's percentile form: the cosine at a percentile of all temporal differences.

    An edge is an event if its difference 1 - w exceeds the percentile, so its weight lies below the value returned.
    Linear interpolation between ranks. Without temporal edges there are no events: -inf.
    """
    if not edges.later.numel():
        return -math.inf
    ordered = (1 - edges.later.flatten().double()).sort().values
    rank = percent / 100 * (len(ordered) - 1)
    low = math.floor(rank)
    high = min(low + 1, len(ordered) - 1)
    difference = torch.lerp(ordered[low], ordered[high], rank - low)
    return 1 - float(difference)


def centrality(features: Tensor, community: Tensor) -> Tensor:
    """Mean cosine of each token to the rest of its community (Eq. 4), float64 (N,).

    Through the community's sum of unit vectors: x . (sum - x) / (|c| - 1). A token that is alone in its
    community represents it perfectly: 1. In float64, because ties are the rule, not the exception: the two tokens of
    a pair always have the same centrality, and the rounding of float32 would choose between them.
    """
    slots, rows, columns, width = features.shape
    label = community.view(slots, rows, columns)
    size = torch.bincount(community)  # (C,)
    shared = size > 1
    row_of = torch.cumsum(shared, 0) - 1  # singletons need no sum
    sums = torch.zeros((int(shared.sum()), width), dtype=torch.float64, device=features.device)
    for t in range(slots):
        inside = shared[label[t]]
        _add_rows(sums, row_of[label[t][inside]], unit_slot(features, t, torch.float64)[inside])
    score = torch.ones((slots, rows, columns), dtype=torch.float64, device=features.device)
    for t in range(slots):
        inside = shared[label[t]]
        x = unit_slot(features, t, torch.float64)[inside]  # (n, D)
        rest = sums[row_of[label[t][inside]]].sub_(x)  # (n, D) the sum of the others
        score[t][inside] = torch.linalg.vecdot(rest, x) / (size[label[t][inside]] - 1)
    return score.flatten()


def _add_rows(sums: Tensor, row: Tensor, x: Tensor) -> None:
    """`sums[row] += x` with a fixed order of addition on every device."""
    if not sums.is_cuda:
        sums.index_add_(0, row, x)
        return
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        sums.index_add_(0, row, x)
    finally:
        torch.use_deterministic_algorithms(before)


def at_resolution(score: Tensor) -> Tensor:
    """Scores as whole multiples of RESOLUTION, so that those which differ by rounding alone are ties."""
    return torch.round(score.double() / RESOLUTION)


def top_by_score(score: Tensor, group: Tensor, quota: Tensor) -> Tensor:
    """(N,) bool: the `quota[g]` highest scores of every group g, ties to the lower index.

    Scores (N,) are compared at RESOLUTION; group (N,) int64 numbers the groups from 0; quota (G,) int64.
    """
    order = torch.sort(at_resolution(score), descending=True, stable=True).indices
    order = order[torch.sort(group[order], stable=True).indices]  # by group, then score, then index
    size = torch.bincount(group, minlength=len(quota))
    start = torch.cumsum(size, 0) - size  # (G,)
    rank = torch.arange(len(score), device=score.device) - start[group[order]]
    keep = torch.zeros(len(score), dtype=torch.bool, device=score.device)
    keep[order] = rank < quota[group[order]]
    return keep
