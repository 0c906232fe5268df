"""FLoC: in each stretch of time, the tokens that stand for all others best."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import RequestError
from ..graph.numerics import RESOLUTION, refuse_non_finite, unit_slot
from ..ratio import Ratio, shares
from ..records import Selection, VideoTokens
from .base import Llm, Method, Step, parameter, plain_selection

#: Tokens of a block at most: their similarities fill 1 GB.
_LARGEST = 2**14


@dataclass(frozen=True)
class FLoC(Method):
    """FLoC (Cho et al., ICLR 2026, arXiv 2511.00141).

    The authors have published no code, so nothing could be compared with it. This follows the abstract, the reviews and
    notes that give the paper's formulas and steps.

    The video is cut into blocks of `block` slots, and each keeps its share of the budget. The tokens S of a block V are
    chosen one by one so that the facility location function f(S) = sum over v in V of max over u in S of cos(v, u)
    grows most, which reaches at least 1 - 1/e of the best for cosines that are not negative. Gains are computed only
    when the last that is known of a token is the largest left (lazy greedy, Minoux 1978): they can only shrink. The
    tokens are kept as they are.

    - f of nothing is 0. So the first token is the one with the largest sum of cosines, which may be negative; all
      others gain what they add to the maximum.
    - Blocks share out ceil(r N) in proportion to their tokens. A block is `block` slots long, be a slot one frame or
      two, the last one what is left; it is shorter where it would hold more than 16384 tokens.
    - Cosines are whole multiples of 1e-6, so that sums of them are exact, and the choice is that of a greedy algorithm
      that is not lazy. Ties go to the lower index.
    - The tokens of a newline column are all alike: one stands for all of a block, and the others gain nothing.
    - A block and its similarities are in memory, never the whole video.
    """

    name: ClassVar[str] = "floc"
    streams: ClassVar[bool] = True
    by_segment: ClassVar[bool] = True

    block: int = parameter(32, "slots of a block, which is compressed by itself (T; 32 by accounts of the paper)")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.block < 1:
            raise RequestError(f"block must be at least 1, got {self.block}.", "The default is 32.")

    def select(self, tokens: VideoTokens, ratio: Ratio, llm: Llm, step: Step) -> Selection:  # noqa: ARG002
        """Choose ceil(r N) tokens, block by block."""
        slots, rows, columns = tokens.grid.shape
        size = rows * columns
        length = max(1, min(self.block, _LARGEST // size))
        sizes = [size * min(length, slots - begin) for begin in range(0, slots, length)]
        budget = shares(ratio.budget(tokens.grid.tokens), sizes)
        step("select")
        kept = []
        for share, (begin, block) in zip(budget, tokens.features.chunks(length), strict=True):
            for t, slot in enumerate(block):
                refuse_non_finite(slot, begin + t)
            x = torch.cat([unit_slot(block, t).flatten(0, 1) for t in range(len(block))])  # (n, D)
            kept.append(representatives(x, share) + begin * size)
        return plain_selection(tokens, torch.cat(kept), blocks=len(sizes))


def representatives(x: Tensor, count: int) -> Tensor:
    """The positions (count,), ascending, that a greedy algorithm chooses for facility location on unit vectors (n, D).

    Of equal gains, the lower position is taken.
    """
    if count in (0, len(x)):
        return torch.arange(count)
    similarity = torch.round(x @ x.T / RESOLUTION).to(torch.int32)  # (n, n)
    first = int(similarity.sum(1).argmax())
    best = similarity[first].clone()  # (n,) the similarity of every token to the nearest that was chosen
    gain = torch.cat([(rows - best).clamp_min_(0).sum(1) for rows in similarity.split(256)])  # (n,) int64
    heap = [(-bound, place) for place, bound in enumerate(gain.tolist()) if place != first]
    heapq.heapify(heap)
    chosen, fresh = [first], [1] * len(x)  # `fresh`: how many were chosen when a gain was computed
    while len(chosen) < count:
        bound, place = heap[0]
        if fresh[place] == len(chosen) or not bound:
            heapq.heappop(heap)
            chosen.append(place)
            torch.maximum(best, similarity[place], out=best)
        else:
            fresh[place] = len(chosen)
            heapq.heapreplace(heap, (-int((similarity[place] - best).clamp_min_(0).sum()), place))
    return torch.tensor(sorted(chosen))
