"""The spatio-temporal graph of ST-SimDiff as pure tensor functions: edges, events, the best of every group.

Edges cost O(N D) time and one pass over the features, whole or chunk by chunk; the sums over channels are those of
`kernels`. Nodes are flat positions t H W + h W + w.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from . import kernels
from .errors import StsimdiffError

#: Cosines (and centralities) closer than this are equal: it lies above the rounding of float32 (6e-8 for the weight of
#: an edge, whose sums are in float64) and far below any threshold of interest, so that CPU, GPU and a plain loop draw
#: the same edges. Centralities stay in float64, good to about 1e-13.
RESOLUTION = 1e-6


class Features(Protocol):
    """Token features (T, H, W, D): a tensor, or anything that gives slots of one by slices."""

    @property
    def shape(self) -> Sequence[int]:
        """T, H, W, D."""

    def __getitem__(self, slots: slice, /) -> Tensor:
        """Slots (n, H, W, D)."""


def chunks(features: Features, slots: int | None, wanted: Tensor | None = None) -> Iterator[tuple[int, Tensor]]:
    """The first slot and the features (n, H, W, D) of every chunk of at most `slots` slots; None: all at once.

    A chunk is there until the next one: features that are read from a file are read into the same memory.
    `wanted` (T,) bool: of each chunk only from the first wanted slot to the last, and nothing if there is none.
    """
    step = slots or max(1, features.shape[0])
    reader = getattr(features, "reader", None)
    read = reader() if reader else features.__getitem__
    for begin in range(0, features.shape[0], step):
        end = min(begin + step, features.shape[0])
        if wanted is not None:
            places = wanted[begin:end].nonzero()
            if not len(places):
                continue
            begin, end = begin + int(places[0]), begin + int(places[-1]) + 1
        yield begin, read(slice(begin, end))


@dataclass(frozen=True)
class Edges:
    """Cosine weights (Eq. 3) of the edges of Eq. 1 and Eq. 2, float32, filed under their earlier node.

    And the length of every token, float64, which takes another pass to find again.
    """

    right: Tensor  # (T, H, W-1) to the neighbour in the next column
    down: Tensor  # (T, H-1, W) to the neighbour in the next row
    later: Tensor  # (T-1, H, W) to the same cell in the next slot
    norm: Tensor  # (T, H, W)

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


def edge_weights(features: Features, slots: int | None = None) -> Edges:
    """Cosine of every spatial and temporal pair of neighbours (Eq. 1 to 3) of `features` (T, H, W, D).

    One pass over chunks of `slots` slots, each met with the last slot of the chunk before.
    Raises StsimdiffError with the position if a feature is NaN or infinite.
    """
    found, previous = [], None
    for begin, chunk in chunks(features, slots):
        products = kernels.choose(chunk, math.prod(features.shape)).products(chunk, previous)
        if not bool(torch.isfinite(products[..., 0]).all()):
            for t in range(len(chunk)):
                _refuse_non_finite(chunk[t], begin + t)
        found.append(products)
        previous = chunk[-1].clone()  # a view would keep the whole chunk
    itself, right, down, earlier = torch.cat(found).unbind(-1)  # (T, H, W)
    norm = itself.sqrt()
    inverse = kernels.inverse_of(norm)
    return Edges(
        right=(right * inverse)[:, :, :-1].mul(inverse[:, :, 1:]).float(),
        down=(down * inverse)[:, :-1].mul(inverse[:, 1:]).float(),
        later=(earlier * inverse)[1:].mul(inverse[:-1]).float(),
        norm=norm,
    )


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


def change_signal(edges: Edges) -> Tensor:
    """(T,) float32: 1 - the mean temporal similarity of a slot to the one before; 0 in the first, which has none."""
    change = torch.zeros(edges.shape[0], device=edges.later.device)
    change[1:] = 1 - edges.later.double().mean(dim=(1, 2)).float()
    return change


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
