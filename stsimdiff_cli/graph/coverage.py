"""Representatives that cover a community: greedy facility location, an alternative to the most central tokens (Eq. 5).

The most central tokens of a community resemble each other: where a community holds a background and, by a chain of
similar neighbours, an object too, all of them show the background. Here the next representative is the token that
raises the sum over the community's tokens of their largest cosine to a representative (0 at least) the most: greedy
maximisation of a monotone submodular function, within 1 - 1/e of the best choice (Nemhauser, Wolsey and Fisher, 1978).

Within a community of n tokens this takes n^2 D operations for the cosines, so that communities have to be cut to a
limit: N limit D in all.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..token_features import TokenFeatures
from . import kernels
from .numerics import at_resolution

#: Rows whose cosines are computed at a time, at least a community.
ROWS = 4096


def coverage_ranks(features: TokenFeatures, community: Tensor, norm: Tensor, quota: Tensor, known: Tensor) -> Tensor:
    """The place (N,) int64 at which each token enters its community's representatives, from 0; N if it does not.

    `community` (N,) are labels from 0, `norm` (T, H, W) the lengths in `Edges`, `quota` (C,) how many each community
    has, `known` (N,) bool tokens that are kept anyway: they come first, cover others, and count. Ties of gains at
    `numerics.RESOLUTION` go to the lower index. Memory holds ROWS rows.
    """
    count = len(community)
    rank = torch.where(known, 0, count)  # (N,)
    inverse = kernels.inverse_of(norm.flatten())
    size = torch.bincount(community, minlength=len(quota))  # (C,)
    order = torch.sort(community, stable=True).indices  # by community, then by position
    start = torch.cumsum(size, 0) - size
    for n in torch.unique(size[quota > 0]).tolist():
        groups = ((size == n) & (quota > 0)).nonzero().squeeze(1)
        for part in groups.split(max(1, ROWS // n)):
            member = order[start[part].unsqueeze(1) + torch.arange(n, device=order.device)]  # (b, n)
            if n > 1:
                cosine = _cosines(features, member, inverse)
                rank[member] = _greedy(cosine, known[member], quota[part], count)
            else:
                rank[member] = 0
    return rank


def _cosines(features: TokenFeatures, member: Tensor, inverse: Tensor) -> Tensor:
    """Cosines (b, n, n) float32, at least 0, of the tokens `member` (b, n) of each community."""
    position, place = torch.unique(member, return_inverse=True)  # ascending, as features are gathered
    rows = features.gather(position).tensor().float()
    rows = rows * inverse[position].float().unsqueeze(1)
    x = rows[place.flatten()].view(*member.shape, -1)  # (b, n, D)
    return torch.bmm(x, x.transpose(1, 2)).clamp_(min=0)


def _greedy(cosine: Tensor, known: Tensor, quota: Tensor, never: int) -> Tensor:
    """Ranks (b, n) of the tokens of b communities of n tokens; see coverage_ranks."""
    _, n, _ = cosine.shape
    covered = torch.where(known.unsqueeze(2), cosine, 0).amax(1)  # (b, n) how well each token is represented
    rank = torch.where(known, 0, never)
    placed = known.sum(1)  # (b,)
    place = torch.arange(n, device=cosine.device)
    for _ in range(int((quota - placed).clamp_min(0).max())):
        gain = at_resolution((cosine - covered.unsqueeze(1)).relu_().sum(2))  # (b, n)
        gain.masked_fill_(rank < never, -1)
        best = torch.where(gain == gain.amax(1, keepdim=True), place, n).amin(1, keepdim=True)  # (b, 1)
        open_ = (placed < quota).unsqueeze(1)
        rank = torch.where(open_ & (place == best) & (rank == never), placed.unsqueeze(1), rank)
        covered = torch.maximum(covered, cosine.gather(1, best.unsqueeze(2).expand(-1, -1, n)).squeeze(1))
        placed = placed + open_.squeeze(1).long()
    return rank
