"""The centrality of tokens in their communities (Eq. 4), from features in memory or chunk by chunk from a file."""

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

    `features` are (T, H, W, D), `community` (N,) labels from 0, `norm` (T, H, W) the lengths in `Edges`. The mean is
    computed from the community's sum of unit vectors: x . (sum - x) / (|c| - 1). A token that is alone in its community
    represents it perfectly: 1. Sums are in float64 because ties are the rule, not the exception: the two tokens of a
    pair always have the same centrality, and the rounding of float32 would choose between them.

    Features come in chunks of `slots` slots (default: `features.chunk_rows`). A community within one chunk is finished
    while that chunk is in memory. A community that spans several chunks has a sum (D,) float64 that is held, and its
    slots are read a second time; if all these sums together exceed SUMS bytes, the communities take turns.
    """
    tokens = _Tokens(features, community, kernels.inverse_of(norm.flatten()), slots)
    size = torch.bincount(community)  # (C,)
    spans = tokens.spanning(size)  # (C,)
    turns = _turns(spans, max(1, SUMS // (8 * features.shape[3])))
    within, across = (size > 1) & ~spans, turns[0] if turns else spans

    score = tokens.inverse.new_zeros(len(community))  # x . sum
    sums = _Sums(tokens, across)
    for chunk in tokens.chunks():
        _, member, start = chunk.members_of(within)
        score[member] = chunk.kernel.affinities(chunk.rows, chunk.inverse, member - chunk.first, start)
        sums.add(chunk)
    for number, turn in enumerate(turns):
        if number:
            sums = _Sums(tokens, turn)
            for chunk in tokens.chunks(turn):
                sums.add(chunk)
        for chunk in tokens.chunks(turn):
            sums.dot(chunk, score)
    mean = (score - (tokens.inverse > 0).double()) / (size[community] - 1)  # x . x is 1, except for a zero vector
    return torch.where(size[community] > 1, mean, 1)


def _turns(spans: Tensor, most: int) -> list[Tensor]:
    """The communities `spans` (C,) bool in groups of at most `most`, each (C,) bool, in order of their numbers."""
    turn = (torch.cumsum(spans, 0) - 1) // most  # (C,)
    return [spans & (turn == number) for number in range(int(turn[spans].max()) + 1)] if bool(spans.any()) else []


class _Tokens:
    """All tokens of a video: their features, which come in chunks, and their communities.

    With two slots of three tokens a chunk, the tokens of four slots and their communities are

        chunk       |      0      |       1        |
        slot        |  0   |  1   |  2   |    3    |
        token       |0 1 2 |3 4 5 |6 7 8 |9 10 11  |
        community   |a b b |a b b |a c c |a  c  c  |

    Here b and c each lie within one chunk, and a spans two. `order` lists the tokens community by community:

        order       |0 3 6 9 |1 2 4 5 |7 8 10 11 |
                     a        b        c
    """

    def __init__(self, features: TokenFeatures, community: Tensor, inverse: Tensor, slots: int | None) -> None:
        self.features, self.community, self.inverse, self.slots = features, community, inverse, slots
        self.slot_size = features.shape[1] * features.shape[2]
        self.order = torch.sort(community, stable=True).indices  # by community, then by position

    def spanning(self, size: Tensor) -> Tensor:
        """(C,) bool: the communities that do not lie within one chunk; `size` (C,) are their sizes."""
        last = torch.cumsum(size, 0) - 1
        chunk_size = self.slot_size * (self.slots or self.features.chunk_rows)
        return self.order[last - size + 1] // chunk_size != self.order[last] // chunk_size

    def chunks(self, wanted: Tensor | None = None) -> Iterator[_Chunk]:
        """All chunks; or, of each, the slots from the first to the last that hold a `wanted` community (C,) bool."""
        slots = None if wanted is None else wanted[self.community].view(-1, self.slot_size).any(1)  # (T,)
        for begin, chunk in self.features.chunks(self.slots, slots):
            yield _Chunk(self, begin * self.slot_size, chunk)


class _Chunk:
    """The tokens of one chunk as rows (n, D), from the token `first` on.

    Chunk 1 of the picture above has first = 6. Its rows are numbered from 0; `order` holds its tokens community by
    community, by their positions in the video:

        row         |0 1 2 3 4  5  |
        token       |6 7 8 9 10 11 |
        community   |a c c a c  c  |

        order       |6 9 |7 8 10 11 |
                     a    c

    Kernels take rows and bounds: `members_of({c})` is the tokens 7 8 10 11, which are the rows 1 2 4 5, with the bounds
    0 and 4.
    """

    def __init__(self, tokens: _Tokens, first: int, chunk: Tensor) -> None:
        self.community, self.first = tokens.community, first
        self.rows = chunk.flatten(0, 2)  # (n, D)
        self.kernel = kernels.choose(chunk, math.prod(tokens.features.shape))
        self.inverse = tokens.inverse[first : first + len(self.rows)]  # (n,)
        self.order = tokens.order[(tokens.order >= first) & (tokens.order < first + len(self.rows))]

    def members_of(self, wanted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The chunk's tokens of the communities `wanted` (C,) bool, community by community.

        Returns the communities (G,), their tokens (M,), and the bounds (G+1,) of each community among the tokens.
        """
        member = self.order[wanted[self.community[self.order]]]
        label, size = torch.unique_consecutive(self.community[member], return_counts=True)
        return label, member, torch.cat([size.new_zeros(1), size.cumsum(0)])


class _Sums:
    """The sums of unit vectors of the communities `wanted` (C,) bool: one row each.

    If a and d of five communities are wanted:

        community   a  b  c  d  e
        wanted      1  0  0  1  0
        row         0  0  0  1  1       (means something only where wanted)

        sums        row 0   sum of a's unit vectors in all chunks so far
                    row 1   sum of d's
    """

    def __init__(self, tokens: _Tokens, wanted: Tensor) -> None:
        self.wanted = wanted
        self.row = torch.cumsum(wanted, 0) - 1  # (C,)
        shape = (int(wanted.sum()), tokens.features.shape[3])
        self.sums = torch.zeros(shape, dtype=torch.float64, device=wanted.device)

    def add(self, chunk: _Chunk) -> None:
        """Add the tokens of a chunk to the sums."""
        label, member, start = chunk.members_of(self.wanted)
        self.sums[self.row[label]] += chunk.kernel.sums(chunk.rows, chunk.inverse, member - chunk.first, start)

    def dot(self, chunk: _Chunk, score: Tensor) -> None:
        """Write x . sum for the tokens of a chunk into `score` (N,)."""
        label, member, start = chunk.members_of(self.wanted)
        sums = self.sums[self.row[label]]
        score[member] = chunk.kernel.dots(chunk.rows, chunk.inverse, member - chunk.first, start, sums)
