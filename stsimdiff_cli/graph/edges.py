"""The edges of the spatio-temporal graph (section 4.2), and what follows from them: strong edges, events, change.

The edges take O(N D) time and one pass over the features, whole or chunk by chunk; `kernels` computes the sums over
channels. Nodes are flat positions t H W + h W + w.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import max_pool3d

from ..token_features import TokenFeatures
from . import kernels
from .numerics import RESOLUTION, refuse_non_finite


@dataclass(frozen=True)
class Edges:
    """Cosine weights (Eq. 3), float32, of the edges of Eq. 1 and Eq. 2, each at the position of its earlier node.

    The lengths of the tokens, float64, are kept too: computing them again would take another pass over the features.
    `far` are edges over `span` slots, where asked for: slow changes show in them. They begin at every `stride`-th slot,
    so that each stretch of time lies under two.
    """

    right: Tensor  # (T, H, W-1) to the neighbour in the next column
    down: Tensor  # (T, H-1, W) to the neighbour in the next row
    later: Tensor  # (T-1, H, W) to the same cell in the next slot
    norm: Tensor  # (T, H, W)
    far: Tensor | None = None  # (E, H, W) to the same cell `span` slots later
    span: int = 0

    @property
    def stride(self) -> int:
        """Slots from the beginning of one of the `far` edges to the next."""
        return stride_of(self.span)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The grid (T, H, W)."""
        return self.down.shape[0], self.right.shape[1], self.down.shape[2]


def stride_of(span: int) -> int:
    """Slots between the beginnings of edges over `span` slots."""
    return max(1, span // 2)


def edge_weights(features: TokenFeatures, slots: int | None = None, far: int = 0) -> Edges:
    """Cosine of every spatial and temporal pair of neighbours (Eq. 1 to 3) in `features` (T, H, W, D).

    With `far`, also of tokens and those of their cells so many slots later. One pass over chunks of `slots` slots
    (default: `features.chunk_rows`), each together with the last slot of the chunk before, or the last `far`.
    StsimdiffError with the position if a feature is NaN or infinite.
    """
    parts, previous = [], None
    distant: list[Tensor] = []
    past: list[Tensor] = []
    for begin, chunk in features.chunks(slots):
        kernel = kernels.choose(chunk, math.prod(features.shape))
        products = kernel.products(chunk, previous)
        if not bool(torch.isfinite(products[..., 0]).all()):
            for t in range(len(chunk)):
                refuse_non_finite(chunk[t], begin + t)
        parts.append(products)
        previous = chunk[-1].clone()  # a view would keep the whole chunk
        if far:
            distant += _far_products(kernel, [*past, *chunk], begin - len(past), begin, far)
            past = [slot.clone() for slot in [*past, *chunk][-far:]]
    itself, right, down, earlier = torch.cat(parts).unbind(-1)  # (T, H, W)
    norm = itself.sqrt()
    inverse = kernels.inverse_of(norm)
    return Edges(
        right=(right * inverse)[:, :, :-1].mul(inverse[:, :, 1:]).float(),
        down=(down * inverse)[:, :-1].mul(inverse[:, 1:]).float(),
        later=(earlier * inverse)[1:].mul(inverse[:-1]).float(),
        norm=norm,
        far=_far_weights(distant, inverse, far) if distant else None,
        span=far,
    )


def _far_products(kernel: kernels.Kernels, slots: list[Tensor], first: int, new: int, span: int) -> list[Tensor]:
    """Dot products (H, W) float64 along the far edges that end in the slots from `new` on.

    `slots` (H, W, D) are those from slot `first` of the video on.
    """
    starts = range(first, first + len(slots) - span)
    return [
        kernel.pairs(slots[t - first].flatten(0, 1), slots[t - first + span].flatten(0, 1)).view(slots[0].shape[:2])
        for t in starts
        if t + span >= new and t % stride_of(span) == 0
    ]


def _far_weights(products: list[Tensor], inverse: Tensor, span: int) -> Tensor:
    """Cosines (E, H, W) float32 along the far edges."""
    start = torch.arange(len(products), device=inverse.device) * stride_of(span)
    return torch.stack(products).mul(inverse[start]).mul(inverse[start + span]).float()


def strong_edges(edges: Edges, tau_sim: float, spatial: bool = True, temporal: bool = True) -> tuple[Tensor, Tensor]:
    """The thresholded graph G' (section 4.3): edges (2, E) int64 of weight > tau_sim, and their weights (E,)."""
    slots, rows, columns = edges.shape
    device = edges.later.device
    node = torch.arange(slots * rows * columns, device=device).view(slots, rows, columns)
    directions = []  # weights, their earlier nodes, and the distance to their later nodes
    if spatial:
        directions += [(edges.right, node[:, :, :-1], 1), (edges.down, node[:, :-1], columns)]
    if temporal:
        directions += [(edges.later, node[:-1], rows * columns)]
    ends = [torch.empty((2, 0), dtype=torch.int64, device=device)]
    weights = [torch.empty(0, device=device)]
    for weight, start, stride in directions:
        keep = weight > tau_sim + RESOLUTION
        ends.append(torch.stack([start[keep], start[keep] + stride]))
        weights.append(weight[keep])
    return torch.cat(ends, dim=1), torch.cat(weights)


def weakest_edges(edges: Edges, ends: str = "later") -> Tensor:
    """(T, H, W) float32: the weight of the temporal edge by which a token could be an event; 2 without such an edge.

    `ends` is "later" for the later token of every edge (Eq. 6), or "both" for the tokens that frame it (section 4.1):
    of a token's edges the weaker counts. Of edges over several slots that overlap in a cell only the weakest counts:
    one change lies under many of them.
    """
    slots, rows, columns = edges.shape
    weakest = torch.full((slots, rows, columns), 2.0, device=edges.later.device)
    _weaken(weakest, edges.later, torch.arange(slots - 1, device=weakest.device), 1, ends)
    if edges.far is not None:
        reach = (edges.span - 1) // edges.stride  # so many edges on each side overlap with one
        lowest = -max_pool3d(-edges.far[None], (2 * reach + 1, 1, 1), stride=1, padding=(reach, 0, 0))[0]
        weight = torch.where(edges.far <= lowest + RESOLUTION, edges.far, 2)
        _weaken(weakest, weight, torch.arange(len(weight), device=weakest.device) * edges.stride, edges.span, ends)
    return weakest


def _weaken(weakest: Tensor, weight: Tensor, start: Tensor, span: int, ends: str) -> None:
    """Lower `weakest` (T, H, W) to the `weight` (E, H, W) of edges that begin in slots `start` (E,), at their ends."""
    for slot in (start + span, start) if ends == "both" else (start + span,):
        weakest[slot] = torch.minimum(weakest[slot], weight)


def event_mask(edges: Edges, threshold: float, ends: str = "later") -> Tensor:
    """(T, H, W) bool: the ends of temporal edges of weight < `threshold` (Eq. 6); `ends` as in weakest_edges."""
    return weakest_edges(edges, ends) < threshold - RESOLUTION


def change_signal(edges: Edges) -> Tensor:
    """(T,) float32: 1 - the mean temporal similarity of a slot to the one before; 0 for the first slot."""
    change = torch.zeros(edges.shape[0], device=edges.later.device)
    change[1:] = 1 - edges.later.double().mean(dim=(1, 2)).float()
    return change


def percentile_threshold(edges: Edges, percent: float) -> float:
    """The tau_diff of the percentile form (section 4.4): the cosine at a percentile of all temporal differences.

    An edge is an event if its difference 1 - w exceeds the percentile, that is, if its weight is below the value
    returned. Ranks are interpolated linearly. Without temporal edges there are no events: -inf.
    """
    if not edges.later.numel():
        return -math.inf
    ordered = (1 - edges.later.flatten().double()).sort().values
    rank = percent / 100 * (len(ordered) - 1)
    low = math.floor(rank)
    high = min(low + 1, len(ordered) - 1)
    difference = torch.lerp(ordered[low], ordered[high], rank - low)
    return 1 - float(difference)
