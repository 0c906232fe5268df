"""FlashVID: salient and diverse tokens, and the rest merged along trees through time."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ..errors import RequestError
from ..graph.clusters import density_peaks, mean_square, segments, squared_distances
from ..graph.numerics import at_resolution, stable_topk, unit_slot
from ..ratio import Ratio, shares
from ..records import Selection, VideoTokens
from .base import Llm, Method, Step, parameter, plain_selection, slot_budgets

#: Distances closer than this are equal; `numerics.RESOLUTION` would be too coarse, as for vispruner.
_EQUAL = 1e-10
#: Nearest tokens that make the density of a token (the code's constant).
_NEIGHBORS = 7


@dataclass(frozen=True)
class FlashVID(Method):
    """FlashVID (Fan et al., ICLR 2026, arXiv 2602.08024), the part before the LLM; code: Fanziyang-v/FlashVID.

    The video is cut into segments (see `segments`). Of the budget of a slot, the share alpha, rounded up, is filled by
    ADTS: a greedy choice of the token whose smallest distance to those chosen, 1 - cosine, times its saliency, times
    its relevance, is the largest (Eq. 6 to 9). The relevance is its product with the mean of all tokens of the segment.
    The others are linked to the most similar other token of the slot before, wherever it is, if the cosine is above
    `threshold` (Eq. 4). A tree of links becomes the mean of its tokens, at the position of its earliest (Eq. 5). Of the
    trees, each slot then keeps its share as clusters around density peaks: the mean of the trees that are nearest to a
    peak, at its position.

    - ceil(r N) tokens are left for the LLM. In the code r is an average over the LLM's layers: 1.25 r of a frame's
      tokens, rounded up, enter, and the 20th layer keeps 30 % of them by the prompt's attention. That step is not here.
    - Slots share out the budget; a segment's trees share out what ADTS leaves, in proportion to their number in each
      slot. The code rounds each frame up.
    - If more tokens are linked than the budget allows, the most similar links stay. The code does the same, with one
      link less.
    - A tree is the mean of its tokens, as in the paper. The released code divides its sum by 1 plus the number of
      tokens that are linked to the root itself, so that trees that go through more than two slots grow with their
      length; `aggregate=published` does so too.
    - In a segment of one slot the code also clusters the tokens that ADTS has chosen, so that a position may come
      twice. ADTS with relevance may choose one token twice in the code. Here every token is used once.
    - Euclidean distances (the density and what is nearest) are in units of the root mean square of the video's
      features, so that their scale does not matter; the code takes them as they are, and adds random noise of 1e-6 to
      densities. Here the lower index is the denser of two.
    - Saliency takes the place of [CLS], as in the code. A newline column is made of tokens like any other; the code
      appends a newline to each frame instead.
    - Cosines that are compared with `threshold` are at `numerics.RESOLUTION`, distances of ADTS at 1e-10.
    - Step by step ours chooses what the code (1d37422) chooses without its noise: see docs/methods.md.
    """

    name: ClassVar[str] = "flashvid"

    alpha: float = parameter(0.7, "share of a slot's budget that salient and diverse tokens fill (section 4.3)")
    threshold: float = parameter(0.8, "cosine above which a token is merged into the slot before (the code's T_tau)")
    relevance: bool = parameter(True, "relevance to the segment counts too (the code's default; off for Qwen)")
    aggregate: str = parameter("mean", "how a tree becomes a token (Eq. 5)", ("mean", "published"))
    segments: int = parameter(8, "segments at least (the code's default; 4 for Qwen)")
    cut: float = parameter(0.9, "cosine of two slots' means below which a segment ends (the code's)")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.alpha <= 1:
            raise RequestError(f"alpha must be between 0 and 1, got {self.alpha}.", "The default is 0.7.")
        for name, value in (("threshold", self.threshold), ("cut", self.cut)):
            if not -1 <= value <= 1:
                default = type(self).__dataclass_fields__[name].default
                raise RequestError(f"{name} must be between -1 and 1, got {value}.", f"The default is {default}.")
        if self.segments < 1:
            raise RequestError(f"segments must be at least 1, got {self.segments}.", "The default is 8.")

    @property
    def needs(self) -> frozenset[str]:
        """Attention in the vision encoder, unless all tokens are merged along trees."""
        return frozenset({"saliency"} if self.alpha else ())

    def select(self, tokens: VideoTokens, ratio: Ratio, llm: Llm, step: Step) -> Selection:  # noqa: ARG002
        """Choose and merge ceil(r N) tokens."""
        _, rows, columns = tokens.grid.shape
        budget = slot_budgets(tokens, ratio)
        if sum(budget) == tokens.grid.tokens:
            return plain_selection(tokens, torch.arange(sum(budget)))
        step("segment")
        features = tokens.features.tensor()  # (T, H, W, D)
        spans = segments(features, self.cut, self.segments)
        square = mean_square(features)
        saliency = tokens.evidence["saliency"].tensor() if self.alpha else features.new_ones(features.shape[:3])
        step("merge")
        chosen = [math.ceil(share * Fraction(str(self.alpha))) for share in budget]
        index, kept_features = [], []
        for span in spans:
            part = slice(span.start, span.stop)
            flat = features[part].flatten(1, 2)  # (F, n, D)
            taken = self._diverse(features[part], saliency[part].flatten(1), chosen[part])  # (F, n)
            left = sum(budget[part]) - sum(chosen[part])
            place, merged = taken.flatten().nonzero().squeeze(1), flat[taken]
            if left:
                roots, trees = self._trees(features[part], ~taken, left)
                target, clusters = _clustered(roots, trees, left, square)
                place, merged = torch.cat([place, target]), torch.cat([merged, clusters.to(flat.dtype)])
            order = place.sort().indices
            index.append(place[order] + span.start * rows * columns)
            kept_features.append(merged[order])
        counts = {"salient": sum(chosen), "merged_into": sum(budget) - sum(chosen), "segments": len(spans)}
        return replace(
            plain_selection(tokens, torch.cat(index).cpu(), **counts), features=torch.cat(kept_features).cpu()
        )

    def _diverse(self, features: Tensor, saliency: Tensor, counts: list[int]) -> Tensor:
        """ADTS: the tokens (F, n) bool that each slot of a segment (F, H, W, D) keeps as they are.

        Saliency is (F, n).
        """
        weight = saliency.double()
        if self.relevance:
            context = torch.stack([slot.double().mean((0, 1)) for slot in features]).mean(0)  # (D,)
            product = torch.stack([slot.flatten(0, 1).double() @ context for slot in features])  # (F, n)
            largest = product.abs().max()
            weight = weight * torch.round(product / torch.where(largest > 0, largest, 1) / _EQUAL)
        taken = torch.zeros(saliency.shape, dtype=torch.bool, device=features.device)
        for slot, count in enumerate(counts):
            if count:
                x = unit_slot(features, slot, torch.float64).flatten(0, 1)  # (n, D)
                taken[slot, _most_distant(x, weight[slot], count)] = True
        return taken

    def _trees(self, features: Tensor, free: Tensor, least: int) -> tuple[Tensor, Tensor]:
        """The roots (F, n) bool of the trees of the tokens `free` (F, n), at least `least`, and what they become.

        `features` (F, H, W, D) are those of a segment. The second is (F, n, D) float32, of use at the roots only.
        """
        count, size = free.shape
        alike = torch.full(free.shape, -torch.inf, dtype=torch.float64, device=free.device)  # in units of RESOLUTION
        parent = torch.zeros(free.shape, dtype=torch.int64, device=free.device)
        before = unit_slot(features, 0).flatten(0, 1)  # (n, D)
        for t in range(1, count):
            x = unit_slot(features, t).flatten(0, 1)
            cosine = at_resolution(x @ before.T).masked_fill(~free[t - 1], -torch.inf)  # (n, n)
            alike[t], parent[t] = cosine.max(dim=-1)
            before = x
        alike[~free] = -torch.inf
        above = int((alike > at_resolution(torch.tensor(self.threshold))).sum())
        linked = torch.zeros(count * size, dtype=torch.bool, device=free.device)
        linked[stable_topk(alike.flatten(), min(above, int(free.sum()) - least))] = True
        linked = linked.view(count, size)
        total = features.flatten(1, 2).to(torch.float32, copy=True)  # (F, n, D)
        members = torch.ones(free.shape, device=free.device)  # (F, n)
        for t in range(count - 1, 0, -1):
            owner = one_hot(parent[t, linked[t]], size).to(total.dtype)  # (l, n)
            total[t - 1] += owner.T @ total[t, linked[t]]
            joined = members[t, linked[t]] if self.aggregate == "mean" else torch.ones_like(owner[:, 0])
            members[t - 1] += owner.T @ joined
        return free & ~linked, total / members[..., None]


def _most_distant(x: Tensor, weight: Tensor, count: int) -> Tensor:
    """(count,) positions of tokens that are salient and unlike each other, by unit vectors `x` (n, D), `weight` (n,).

    The first has the largest product of weight and distance to its nearest; every other has the largest product of
    weight and distance to the nearest that was chosen before. Ties go to the lower position.
    """
    if count == len(x):
        return torch.arange(count, device=x.device)
    distance = torch.round((1 - x @ x.T).clamp_min(0) / _EQUAL)  # (n, n)
    distance.fill_diagonal_(0)
    weighted = distance * weight  # (n, n): a column has the weight of its token
    chosen = torch.zeros(count, dtype=torch.int64, device=x.device)
    score = weighted.clone().fill_diagonal_(torch.inf).amin(0)  # (n,)
    for i in range(count):
        if i:
            score = torch.minimum(score, weighted[chosen[i - 1]]) if i > 1 else weighted[chosen[0]].clone()
            score[chosen[:i]] = -torch.inf
        chosen[i] = score.argmax()
    return chosen


def _clustered(roots: Tensor, trees: Tensor, budget: int, square: float) -> tuple[Tensor, Tensor]:
    """`budget` positions (b,) in a segment, and the trees merged into them (b, D): see FlashVID.

    `roots` is (F, n) bool, `trees` (F, n, D); `square` is the mean square of the video's features.
    """
    size = roots.shape[1]
    each = shares(budget, roots.sum(1).tolist())
    places, merged = [], []
    for t, count in enumerate(each):
        place = roots[t].nonzero().squeeze(1)  # (m,)
        x = trees[t, place]  # (m, D)
        if 0 < count < len(place):
            squares = squared_distances(x, x, square)
            peak = density_peaks(squares, min(count, _NEIGHBORS), count).sort().values
            owner = at_resolution(squares[:, peak].sqrt()).argmin(1)  # (m,)
            owner[peak] = torch.arange(count, device=x.device)
            member = one_hot(owner, count).to(x.dtype)  # (m, count)
            x, place = member.T @ x / member.sum(0)[:, None], place[peak]
        places.append(place[:count] + t * size)
        merged.append(x[:count])
    return torch.cat(places), torch.cat(merged)
