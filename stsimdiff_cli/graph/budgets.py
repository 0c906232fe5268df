"""Ways to come from candidates to exactly the budget, besides the paper's final prune by importance (section 4.5)."""

from __future__ import annotations

import torch
from torch import Tensor

from .numerics import ranks_in_groups, stable_topk


def fit_representatives(rank: Tensor, piece: Tensor, whole: Tensor, wanted: int, known: Tensor) -> Tensor:
    """(N,) bool: the `wanted` representatives with which the rate of Eq. 5 fits the budget.

    A token of place k (from 0) in a community of n is one of the ceil(r n) representatives of Eq. 5 as soon as r
    exceeds k / n. So those with the lowest k / n are the representatives at the highest rate that fits. `rank` (N,) is
    the place of each token in its `piece` (N,) of a `whole` community (N,). The pieces of a community take turns, in an
    order spread over it: of m pieces of n tokens, the token of place k in the j-th has the place k m + j in the whole,
    and enters at (k + j / m) / n. Ties go to the larger community, which represents more; among equals they are spread
    over the video. Tokens that are `known` (N,) to be kept are left out.
    """
    size = torch.bincount(piece)  # (P,)
    of_whole = torch.empty_like(size)
    of_whole[piece] = whole
    turn = ranks_in_groups(-_spread(len(size), size.device), of_whole)  # (P,)
    later = turn.double() / torch.bincount(of_whole)[of_whole]
    rate = torch.where(known, torch.inf, (rank + later[piece]) / size[piece])
    order = torch.argsort(_spread(len(rank), rank.device))
    order = order[torch.sort(torch.bincount(whole)[whole][order], descending=True, stable=True).indices]
    order = order[torch.sort(rate[order], stable=True).indices][:wanted]
    keep = torch.zeros_like(known)
    keep[order] = True
    return keep


def _spread(count: int, device: torch.device) -> Tensor:
    """(N,) multiples of the golden ratio, modulo one, as whole numbers: any first few of them are spread evenly.

    Knuth's multiplicative hashing, so that every device has the same numbers.
    """
    return torch.arange(count, device=device) * 2654435769 % (1 << 32)


def varied(sharpness: Tensor, event: Tensor, community: Tensor) -> Tensor:
    """(N,) float64: the n-th sharpest event of a `community` (N,) has 1/n of its `sharpness` (N,), 0 what is none.

    So many events that resemble each other give way to others that are less sharp.
    """
    score = torch.where(event, sharpness.double(), -torch.inf)
    return torch.where(event, sharpness / (ranks_in_groups(score, community) + 1), 0)


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
