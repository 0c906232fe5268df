"""The centrality of tokens in their communities (Eq. 4), from features that are whole or come chunk by chunk."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ..token_features import TokenFeatures
from . import kernels

#: Bytes of sums that are held at a time.
SUMS = 1 << 27


def centrality(features: TokenFeatures, community: Tensor, norm: Tensor, slots: int | None = None) -> Tensor:
    """Mean cosine of each token to the rest of its community (Eq. 4), float64 (N,).

    `community` (N,) are labels from 0, `norm` (T, H, W) the lengths of `Edges`. Through the community's sum of unit
    vectors: x . (sum - x) / (|c| - 1). A token that is alone in its community represents it perfectly: 1.
    In float64, because ties are the rule, not the exception: the two tokens of a pair always have the same centrality,
    and the rounding of float32 would choose between them.

    Features come in chunks of `slots` slots (default: `features.chunk_rows`). Communities that lie within one are done
    while it is there. Those that span several keep a sum each, (S, D) float64, and their slots are read a second time;
    if there are so many of them that their sums would need more than SUMS bytes, they take turns.
    """
    tokens = _Tokens(features, community, kernels.inverse_of(norm.flatten()), slots)
    size = torch.bincount(community)  # (C,)
    spans = tokens.spanning(size)  # (C,)
    turns = _turns(spans, max(1, SUMS // (8 * features.shape[3])))
    within, across = (size > 1) & ~spans, turns[0] if turns else spans

    score = tokens.inverse.new_zeros(len(community))  # x . sum
    sums = _Sums(tokens, across)
    for part in tokens.chunks():
        _, member, start = part.of(within)
        score[member] = part.kernel.affinities(part.rows, part.unit, member - part.low, start)
        sums.add(part)
    for number, turn in enumerate(turns):
        if number:
            sums = _Sums(tokens, turn)
            for part in tokens.chunks(turn):
                sums.add(part)
        for part in tokens.chunks(turn):
            sums.meet(part, score)
    mean = (score - (tokens.inverse > 0).double()) / (size[community] - 1)  # x . x is 1, but for a zero vector
    return torch.where(size[community] > 1, mean, 1)


def _turns(spans: Tensor, most: int) -> list[Tensor]:
    """Communities (C,) bool in groups of at most `most`, in order of their first tokens."""
    turn = (torch.cumsum(spans, 0) - 1) // most  # (C,)
    return [spans & (turn == number) for number in range(int(turn[spans].max()) + 1)] if bool(spans.any()) else []


class _Tokens:
    """Features that come in chunks, and the communities of their tokens."""

    def __init__(self, features: TokenFeatures, community: Tensor, inverse: Tensor, slots: int | None) -> None:
        self.features, self.community, self.inverse, self.slots = features, community, inverse, slots
        self.slot_size = features.shape[1] * features.shape[2]
        self.order = torch.sort(community, stable=True).indices  # by community, then by place

    def spanning(self, size: Tensor) -> Tensor:
        """(C,) bool: communities of these sizes that do not lie within one chunk."""
        last = torch.cumsum(size, 0) - 1
        chunk_size = self.slot_size * (self.slots or self.features.chunk_rows)
        return self.order[last - size + 1] // chunk_size != self.order[last] // chunk_size

    def chunks(self, wanted: Tensor | None = None) -> Iterator[_Part]:
        """All chunks; or, of each, the slots from the first to the last that hold a `wanted` community (C,)."""
        slots = None if wanted is None else wanted[self.community].view(-1, self.slot_size).any(1)  # (T,)
        for begin, chunk in self.features.chunks(self.slots, slots):
            yield _Part(self, begin * self.slot_size, chunk)


class _Part:
    """One chunk: its tokens as rows (n, D), from token `low` on."""

    def __init__(self, tokens: _Tokens, low: int, chunk: Tensor) -> None:
        self.community, self.low = tokens.community, low
        self.rows = chunk.flatten(0, 2)
        self.kernel = kernels.choose(chunk, math.prod(tokens.features.shape))
        self.unit = tokens.inverse[low : low + len(self.rows)]
        self.inside = tokens.order[(tokens.order >= low) & (tokens.order < low + len(self.rows))]

    def of(self, wanted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens whose community is `wanted` (C,), by community.

        Their communities (G,), the tokens (M,), and where each community starts (G+1,).
        """
        member = self.inside[wanted[self.community[self.inside]]]
        group, size = torch.unique_consecutive(self.community[member], return_counts=True)
        return group, member, torch.cat([size.new_zeros(1), size.cumsum(0)])


class _Sums:
    """The sums of unit vectors of the communities `wanted` (C,)."""

    def __init__(self, tokens: _Tokens, wanted: Tensor) -> None:
        self.wanted = wanted
        self.row = torch.cumsum(wanted, 0) - 1
        shape = (int(wanted.sum()), tokens.features.shape[3])
        self.sums = torch.zeros(shape, dtype=torch.float64, device=wanted.device)

    def add(self, part: _Part) -> None:
        """Take in the tokens of a chunk."""
        group, member, start = part.of(self.wanted)
        self.sums[self.row[group]] += part.kernel.sums(part.rows, part.unit, member - part.low, start)

    def meet(self, part: _Part, score: Tensor) -> None:
        """Write x . sum of a chunk's tokens into the scores (N,)."""
        group, member, start = part.of(self.wanted)
        sums = self.sums[self.row[group]]
        score[member] = part.kernel.dots(part.rows, part.unit, member - part.low, start, sums)
