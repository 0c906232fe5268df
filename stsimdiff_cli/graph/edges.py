"""The edges of the spatio-temporal graph (section 4.2), and what follows from them: strong edges, events, change.

The edges take O(N D) time and one pass over the features, whole or chunk by chunk; `kernels` computes the sums over
channels. Nodes are flat positions t H W + h W + w.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor

from ..token_features import TokenFeatures
from . import kernels
from .numerics import RESOLUTION, refuse_non_finite


@dataclass(frozen=True)
class Edges:
    """Cosine weights (Eq. 3), float32, of the edges of Eq. 1 and Eq. 2, each at the position of its earlier node.

    The lengths of the tokens, float64, are kept too: computing them again would take another pass over the features.
    `far` are edges over `span` slots, where asked for: slow changes show in them. They begin at every `stride`-th slot
    (see `stride_of`); a video of at most `span` slots has none.
    """

    right: Tensor  # (T, H, W-1) to the neighbour in the next column
    down: Tensor  # (T, H-1, W) to the neighbour in the next row
    later: Tensor  # (T-1, H, W) to the same cell in the next slot
    norm: Tensor  # (T, H, W)
    far: Tensor  # (E, H, W) to the same cell `span` slots later
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
    """Slots between the beginnings of edges over `span` slots: half of them, so that a change lies under two edges."""
    return max(1, span // 2)


def edge_weights(features: TokenFeatures, slots: int | None = None, far: int = 0, past: Tensor | None = None) -> Edges:
    """Cosine of every spatial and temporal pair of neighbours (Eq. 1 to 3) in `features` (T, H, W, D).

    With `far`, also of tokens and those of their cells so many slots later. The slots `past` (P, H, W, D) come before
    the first, and count as slots: T is then P more. One pass over chunks of `slots` slots
    (default: `features.chunk_rows`); of those before, memory holds the last one, and those where a far edge begins that
    has not ended. StsimdiffError with the position if a feature is NaN or infinite.
    """
    count, rows, columns = features.shape[:3]
    chunks = features.chunks(slots)
    if past is not None:
        count += len(past)
        chunks = chain([(0, past)], ((len(past) + begin, chunk) for begin, chunk in chunks))
    parts, previous = [], None
    ends = [torch.empty((0, rows, columns), dtype=torch.float64, device=features.device)]  # products of far edges
    begun: dict[int, Tensor] = {}  # the slots (H, W, D) where they begin
    for begin, chunk in chunks:
        kernel = kernels.choose(chunk, math.prod(features.shape))
        products = kernel.products(chunk, previous)
        if not bool(torch.isfinite(products[..., 0]).all()):
            for t in range(len(chunk)):
                refuse_non_finite(chunk[t], begin + t)
        parts.append(products)
        for t, slot in enumerate(chunk, begin) if far else ():
            if t - far in begun:
                pairs = kernel.pairs(begun.pop(t - far).flatten(0, 1), slot.flatten(0, 1))
                ends.append(pairs.view(1, rows, columns))
            if t % stride_of(far) == 0 and t + far < count:
                begun[t] = slot
        previous = chunk[-1].clone()  # a view would keep the whole chunk
        begun = {t: slot.clone() for t, slot in begun.items()}
    itself, right, down, earlier = torch.cat(parts).unbind(-1)  # (T, H, W)
    norm = itself.sqrt()
    inverse = kernels.inverse_of(norm)
    distant = torch.cat(ends)  # (E, H, W)
    start = torch.arange(len(distant), device=norm.device) * stride_of(far)
    return Edges(
        right=(right * inverse)[:, :, :-1].mul(inverse[:, :, 1:]).float(),
        down=(down * inverse)[:, :-1].mul(inverse[:, 1:]).float(),
        later=(earlier * inverse)[1:].mul(inverse[:-1]).float(),
        norm=norm,
        far=(distant * inverse[start]).mul(inverse[start + far]).float(),
        span=far,
    )


def without_first(edges: Edges, slots: int) -> Edges:
    """The edges between the slots after the first `slots`, without far ones."""
    if not slots:
        return edges
    parts = {name: getattr(edges, name)[slots:] for name in ("right", "down", "later", "norm")}
    return replace(edges, **parts, far=edges.far[:0])


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
    of a token's edges the weaker counts. Of far edges that overlap in a cell only the weakest counts, since one change
    lies under many of them; of equals, the earliest.
    """
    slots, rows, columns = edges.shape
    weakest = torch.full((slots, rows, columns), 2.0, device=edges.later.device)
    for weight, stride, span in ((edges.later, 1, 1), (_weakest_far(edges), edges.stride, edges.span)):
        start = torch.arange(len(weight), device=weight.device) * stride
        for slot in (start, start + span) if ends == "both" else (start + span,):
            weakest[slot] = torch.minimum(weakest[slot], weight)
    return weakest


def _weakest_far(edges: Edges) -> Tensor:
    """(E, H, W): the weights of far edges, 2 for those that overlap with a weaker one, or an equal one before them."""
    counts = torch.ones_like(edges.far, dtype=torch.bool)
    for shift in range(1, (edges.span - 1) // edges.stride + 1):  # edges so many places apart overlap
        if shift < len(counts):
            before, after = edges.far[:-shift], edges.far[shift:]
            counts[shift:] &= after < before - RESOLUTION
            counts[:-shift] &= before <= after + RESOLUTION
    return torch.where(counts, edges.far, 2)


def event_mask(weakest: Tensor, threshold: float) -> Tensor:
    """(T, H, W) bool: tokens whose `weakest_edges` (T, H, W) have a weight < `threshold` (Eq. 6)."""
    return weakest < threshold - RESOLUTION


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
