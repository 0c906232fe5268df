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

#: Rows widened to float64 at a time: few enough for the cache of a CPU, enough to keep a GPU busy.
ROWS = {"cpu": 96, "cuda": 4096}
#: Cosines held at a time, at least those of one community.
COSINES = 1 << 22


def coverage_ranks(features: TokenFeatures, community: Tensor, norm: Tensor, quota: Tensor, known: Tensor) -> Tensor:
    """The place (N,) int64 at which each token enters its community's representatives, from 0; N if it does not.

    `community` (N,) are labels from 0, `norm` (T, H, W) the lengths in `Edges`, `quota` (C,) how many each community
    has, `known` (N,) bool tokens that are kept anyway: they come first, cover others, and count. Ties of gains at
    `numerics.RESOLUTION` go to the lower index. Memory holds twice COSINES numbers and a few rows.
    """
    count = len(community)
    rank = torch.where(known, 0, count)  # (N,)
    inverse = kernels.inverse_of(norm.flatten())
    size = torch.bincount(community, minlength=len(quota))  # (C,)
    order = torch.sort(community, stable=True).indices  # by community, then by position
    start = torch.cumsum(size, 0) - size
    for n in torch.unique(size[quota > 0]).tolist():
        groups = ((size == n) & (quota > 0)).nonzero().squeeze(1)
        for part in groups.split(max(1, COSINES // (n * n))):
            member = order[start[part].unsqueeze(1) + torch.arange(n, device=order.device)]  # (b, n)
            if n > 1:
                rank[member] = _greedy(_cosines(features, member, inverse), known[member], quota[part], count)
            else:
                rank[member] = 0
    return rank


def _cosines(features: TokenFeatures, member: Tensor, inverse: Tensor) -> Tensor:
    """Cosines (b, n, n) float64, at least 0, of the tokens `member` (b, n) of each community."""
    b, n = member.shape
    cosine = torch.empty((b, n, n), dtype=torch.float64, device=member.device)
    block = max(1, ROWS["cuda" if member.is_cuda else "cpu"] // n)
    wide = torch.empty((block * n, features.shape[-1]), dtype=torch.float64, device=member.device)
    for begin in range(0, b, block):
        part = member[begin : begin + block]
        position, place = torch.sort(part.flatten())  # a file is read in ascending order
        rows = features.gather(position).tensor()
        x = wide[: len(position)].copy_(rows[torch.argsort(place)]).view(*part.shape, -1)  # (block, n, D)
        torch.bmm(x, x.transpose(1, 2), out=cosine[begin : begin + block])
    weight = inverse[member]  # (b, n)
    return cosine.mul_(weight.unsqueeze(2)).mul_(weight.unsqueeze(1)).clamp_(min=0)


def _greedy(cosine: Tensor, known: Tensor, quota: Tensor, never: int) -> Tensor:
    """Ranks (b, n) of the tokens of b communities of n tokens; see coverage_ranks."""
    _, n, _ = cosine.shape
    covered = torch.where(known.unsqueeze(2), cosine, 0).amax(1)  # (b, n) how well each token is represented
    rank = torch.where(known, 0, never)
    placed = known.sum(1)  # (b,)
    place = torch.arange(n, device=cosine.device)
    better = torch.empty_like(cosine)
    for _ in range(int((quota - placed).clamp_min(0).max())):
        torch.maximum(cosine, covered.unsqueeze(1), out=better)
        gain = at_resolution(better.sum(2) - covered.sum(1, keepdim=True))  # (b, n)
        gain.masked_fill_(rank < never, -1)
        best = torch.where(gain == gain.amax(1, keepdim=True), place, n).amin(1, keepdim=True)  # (b, 1)
        open_ = (placed < quota).unsqueeze(1)
        rank = torch.where(open_ & (place == best) & (rank == never), placed.unsqueeze(1), rank)
        covered = torch.maximum(covered, cosine.gather(1, best.unsqueeze(2).expand(-1, -1, n)).squeeze(1))
        placed = placed + open_.squeeze(1).long()
    return rank
