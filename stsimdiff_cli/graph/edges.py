"""The spatio-temporal graph of ST-SimDiff as pure tensor functions: edges, events, the best of every group.

Edges cost O(N D) time and one pass over the features, whole or chunk by chunk; the sums over channels are those of
`kernels`. Nodes are flat positions t H W + h W + w.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..token_features import TokenFeatures
from . import kernels
from .numerics import RESOLUTION, refuse_non_finite


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


def edge_weights(features: TokenFeatures, slots: int | None = None) -> Edges:
    """Cosine of every spatial and temporal pair of neighbours (Eq. 1 to 3) of `features` (T, H, W, D).

    One pass over chunks of `slots` slots (default: `features.chunk_rows`), each with the last slot of the one before.
    Raises StsimdiffError with the position if a feature is NaN or infinite.
    """
    found, previous = [], None
    for begin, chunk in features.chunks(slots):
        products = kernels.choose(chunk, math.prod(features.shape)).products(chunk, previous)
        if not bool(torch.isfinite(products[..., 0]).all()):
            for t in range(len(chunk)):
                refuse_non_finite(chunk[t], begin + t)
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
