"""Ways to come from candidates to exactly the budget, besides the paper's final prune by importance (section 4.5)."""

from __future__ import annotations

import torch
from torch import Tensor

from .numerics import ranks_in_groups, stable_topk


def fit_representatives(rank: Tensor, piece: Tensor, whole: Tensor, representative: Tensor, wanted: int) -> Tensor:
    """(N,) bool: the `wanted` representatives (or all, if there are fewer) with which the rate of Eq. 5 fits a budget.

    A token of place k (from 0) in a community of n is one of the ceil(r n) representatives of Eq. 5 as soon as r
    exceeds k / n. So those with the lowest k / n are the representatives at the highest rate that fits. `rank` (N,) is
    the place of each token in its `piece` (N,) of a `whole` community (N,), both numbered from 0; only tokens that are
    `representative` (N,) are taken.

    The m pieces of a community take turns, in an order that is spread over it: the token of place k in the j-th of them
    has place k m + j in the whole. Ties go to the larger community, which represents more; among equals they are spread
    over the video.
    """
    size = torch.bincount(piece)  # (P,)
    of_whole = torch.empty_like(size)
    of_whole[piece] = whole
    pieces = torch.bincount(of_whole)[of_whole]  # (P,) in the same community
    turn = ranks_in_groups(-_spread(len(size), size.device), of_whole)  # (P,)
    rate = (rank * pieces[piece] + turn[piece]) / (pieces * size)[piece]  # one division: equal fractions are equal
    rate = torch.where(representative, rate, torch.inf)
    order = torch.argsort(_spread(len(rank), rank.device))
    order = order[stable_topk(torch.bincount(whole)[whole][order], len(order))]
    order = order[stable_topk(-rate[order], min(wanted, int(representative.sum())))]
    keep = torch.zeros_like(representative)
    keep[order] = True
    return keep


def _spread(count: int, device: torch.device) -> Tensor:
    """(count,) int64: the numbers i times the golden ratio, modulo one, in units of 2^-32: Knuth's hash; all different.

    However few of the i with the lowest values are taken, they are spread evenly over all.
    """
    return torch.arange(count, device=device) * 2654435769 % (1 << 32)


def varied(sharpness: Tensor, event: Tensor, community: Tensor) -> Tensor:
    """(N,) float64: the n-th sharpest event of a `community` (N,) has 1/n of its `sharpness` (N,), 0 what is none.

    So many events that resemble each other give way to others that are less sharp. Ties go to the lower index.
    """
    place = ranks_in_groups(torch.where(event, sharpness, -torch.inf), community)  # (N,)
    return torch.where(event, sharpness / (place + 1), 0)


def sharpest(sharpness: Tensor, event: Tensor, most: int) -> Tensor:
    """(N,) bool: the `most` events (or all, if there are fewer) of the largest `sharpness` (N,)."""
    order = stable_topk(torch.where(event, sharpness, -torch.inf), min(most, int(event.sum())))
    keep = torch.zeros_like(event)
    keep[order] = True
    return keep


def equal_shares(group: Tensor, budget: int) -> Tensor:
    """(G,) int64: a budget divided over groups in proportion to their members; `group` (M,) numbers them from 0.

    Every group gets one at least, the larger ones first if there are more groups than tokens to give. Remainders are
    rounded up from the largest on; among equals the lower number comes first.
    """
    size = torch.bincount(group)  # (G,)
    if len(size) >= budget:
        first = torch.zeros_like(size)
        first[stable_topk(size, budget)] = 1
        return first
    single = torch.zeros_like(size, dtype=torch.bool)  # groups whose share would be less than one
    while True:
        left = budget - int(single.sum())
        total = int(size[~single].sum())
        fewer = ~single & (size * left < total)
        if not bool(fewer.any()):
            break
        single |= fewer
    whole = torch.where(single, 1, size * left // max(1, total))
    remainder = torch.where(single, -1, size * left % max(1, total))
    whole[stable_topk(remainder, budget - int(whole.sum()))] += 1
    return whole
