"""ST-SimDiff: similarity finds what repeats, difference finds what happens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import RequestError
from ..graph.budgets import equal_shares, fit_representatives, sharpest, varied
from ..graph.centrality import centrality
from ..graph.communities import (
    ALGORITHMS,
    cell_by_cell,
    communities,
    first_pieces,
    most_coherent,
    split_large,
    sqrt_limit,
)
from ..graph.coverage import coverage_ranks
from ..graph.edges import (
    Edges,
    change_signal,
    edge_weights,
    event_mask,
    percentile_threshold,
    strong_edges,
    weakest_edges,
    without_first,
)
from ..graph.numerics import at_resolution, ranks_in_groups, stable_topk
from ..layer_pruning import Keep, LayerAttention, LayerPruner, LayerState
from ..ratio import Ratio
from ..records import Kind, Selection, VideoTokens
from .base import Llm, Method, Step, parameter

#: The orders of tokens in which a large community can be cut into consecutive runs.
SPLITS = ("time", "space")
#: Which ends of a broken temporal edge are events: the later one (Eq. 6), or the tokens that frame it (4.1).
ENDS = ("later", "both")
REPRESENTATIVES = ("central", "coverage")
QUOTAS = ("ceil", "code")
PRUNES = ("importance", "share", "fit")


@dataclass(frozen=True)
class StSimDiff(Method):
    """ST-SimDiff (Luo et al., ICLR 2026), section 4 of the paper; the authors' code is bingjunluo/ST-SimDiff.

    Where the paper leaves a choice open, or we differ from the released code:

    - The budget is the paper's ceil(r N). The code's "cost" is an average over 28 LLM layers instead.
    - Events are the later tokens of temporal edges (Eq. 6) and compete in the final prune like every candidate, as
      section 4.5 says. The code exempts them from its similarity step.
    - The graph is built on the tokens as they enter the LLM (Eq. 3), as in the code.
    - A community larger than sqrt(N) is cut into consecutive runs of its tokens, in order of time unless `split=space`
      (`communities.split_large`).
    - `importance=centrality` needs no model: the centrality of Eq. 4 replaces attention in the final prune, and a token
      that is alone in its community has centrality 1.

    The code forms its candidates otherwise than the paper; `quota=code, max_community=none` does as it does. Of each
    community it drops ceil((1 - r) |c|) tokens that are not events, the most coherent communities first, and stops
    before more than (1 - r) N are gone.

    Parameters that are not in the paper; each is off by default:

    - `ends=both`: both tokens of a broken edge are events, since what vanishes is seen only before.
    - `far=8`: an edge over so many slots can be broken, too: a slow change breaks none from slot to slot.
    - `event_share` below 1: events take at most this share of the budget, the sharpest first; with `varied=on` the n-th
      of a community counts with 1/n of its sharpness, so that what moves all the time does not take all places.
    - `representatives=coverage`: representatives are spread over their community (graph/coverage.py).
    - `prune=share`: the final prune takes the same share of every community (before the split), at least one token of
      each stays while the budget lasts, and importance ranks within.
    - `prune=fit`: no final prune and no model. The sharpest events take at most `event_share` of the budget, and the
      rate of Eq. 5 falls until the representatives fit the rest (graph/budgets.py).
    """

    name: ClassVar[str] = "st-simdiff"
    streams: ClassVar[bool] = True
    by_segment: ClassVar[bool] = True
    inside: ClassVar[bool] = True

    tau_sim: float = parameter(0.8, "an edge of G' is more similar than this (4.3; the paper's optimum)")
    tau_diff: float | str = parameter(
        0.2, "an event is less similar to its past than this (Eq. 6); p95: above that percentile of differences (4.4)"
    )
    spatial: bool = parameter(True, "spatial edges (Eq. 1); a row of Table 3")
    temporal: bool = parameter(True, "temporal edges (Eq. 2); a row of Table 3")
    events: bool = parameter(True, "difference-based event tokens (4.4); a row of Table 3")
    communities: str = parameter("components", "how communities are found (4.3, 4.6)", ALGORITHMS)
    max_community: str = parameter("sqrt", "larger communities are split: sqrt for sqrt(N), none (4.6), or a number")
    split: str = parameter(
        "time", "pieces of a large community: stretches of time, or patches of space (not in the paper)", SPLITS
    )
    ends: str = parameter("later", "events: the later end of a broken edge (Eq. 6), or both ends", ENDS)
    far: int = parameter(0, "events: also the difference to the slot this many before, for slow changes; 0: not")
    event_share: float = parameter(1.0, "below 1: events take at most this share of the budget, the sharpest first")
    varied: bool = parameter(False, "events: the n-th of a community counts with 1/n of its sharpness")
    representatives: str = parameter(
        "central", "of a community: the most central tokens (Eq. 4), or those that cover it", REPRESENTATIVES
    )
    quota: str = parameter("ceil", "of a community: ceil(r |c|) tokens (Eq. 5), or as the authors' code has it", QUOTAS)
    prune: str = parameter(
        "importance",
        "final prune: by importance (4.5), an equal share of every community, or none: a rate that fits",
        PRUNES,
    )
    importance: str = parameter(
        "llm", "what ranks candidates in the final prune (4.5)", ("llm", "saliency", "centrality")
    )
    layer: int = parameter(1, "LLM layer whose attention is the importance, from 0: 1 is the second (4.5, 'shallow')")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not -1 <= self.tau_sim <= 1:
            raise RequestError(f"tau_sim must be between -1 and 1, got {self.tau_sim}.", "The default is 0.8.")
        if self.communities != "components" and self.tau_sim < 0:
            raise RequestError(
                f"communities={self.communities} needs positive edge weights.", "Give a tau_sim of at least 0."
            )
        if self.layer < 0:
            raise RequestError(f"layer must be at least 0, got {self.layer}.", "Layers count from 0; the default is 1.")
        if self.max_community not in ("sqrt", "none") and not _is_count(self.max_community):
            raise RequestError(
                f"max_community={self.max_community} is not one of the choices.", "Use sqrt, none, or a number, e.g. 32"
            )
        if self.far < 0:
            raise RequestError(f"far must be at least 0, got {self.far}.", "Give a number of slots, e.g. 8")
        if not 0 <= self.event_share <= 1:
            raise RequestError(f"event_share must be between 0 and 1, got {self.event_share}.", "Give e.g. 0.6")
        if self.varied and self.event_share == 1 and self.prune != "fit":
            raise RequestError("varied=on ranks events, and nothing limits them.", "Add event_share=0.4, or prune=fit")
        if self.representatives == "coverage" and self.prune != "fit" and self.importance == "centrality":
            raise RequestError(
                "representatives=coverage computes no centrality.", "Add prune=fit, or importance=saliency."
            )
        if self.quota == "code" and (self.max_community != "none" or self.representatives != "central"):
            raise RequestError(
                "quota=code needs whole communities and their most central tokens.", "Add max_community=none"
            )
        if isinstance(self.tau_diff, str):
            self._percent(self.tau_diff)
        elif not -1 <= self.tau_diff <= 1:
            raise RequestError(f"tau_diff must be between -1 and 1, got {self.tau_diff}.", "Give e.g. 0.2 or p95")

    @property
    def needs(self) -> frozenset[str]:
        """The evidence of the final prune, if there is one; centrality comes from the features themselves."""
        return frozenset() if self.prune == "fit" or self.importance == "centrality" else frozenset({self.importance})

    @property
    def lookback(self) -> int:
        """As far as its edges reach."""
        return max(1, self.far)

    @staticmethod
    def _percent(text: str) -> float:
        try:
            percent = float(text[1:])
        except ValueError:
            percent = math.nan
        if text[:1].lower() != "p" or not 0 <= percent <= 100:
            raise RequestError(f"tau_diff={text} is neither a cosine nor a percentile.", "Give e.g. 0.2 or p95")
        return percent

    def select(self, tokens: VideoTokens, ratio: Ratio, llm: Llm, step: Step) -> Selection:
        """Sections 4.2 to 4.5, in order."""
        budget = ratio.budget(tokens.grid.tokens)
        candidates = self._candidates(tokens, ratio, step)
        step("importance")  # 4.5
        if self.prune == "fit":
            index, weight = candidates.fit(budget), None
        else:
            index, weight = self._prune(candidates, budget, tokens, llm)
        kind = candidates.representative[index] * int(Kind.REPRESENTATIVE) + candidates.event[index] * int(Kind.EVENT)
        traces = {
            "change": candidates.change.cpu(),
            "regions": candidates.community.view(tokens.grid.shape).to(torch.int32).cpu(),
            "whole_of": first_pieces(candidates.whole, candidates.community).to(torch.int32).cpu(),
        }
        if candidates.score is not None:
            traces["centrality"] = candidates.score[index].float().cpu()
        return Selection(
            index=index.cpu(),
            kind=kind.to(torch.uint8).cpu(),
            community=candidates.community[index].cpu(),
            importance=None if weight is None else weight.cpu(),
            counts={"tokens": tokens.grid.tokens, "kept": len(index), **candidates.counts()},
            traces=traces,
        )

    def layer_pruner(self, tokens: VideoTokens, ratio: Ratio) -> LayerPruner:
        """Only candidates enter the LLM; the final prune (4.5) is after the attention of `layer`, as in the code."""
        if self.prune != "importance":
            raise RequestError(
                f"{self.name} with prune={self.prune} does not work inside the LLM.", "Compress first, then ask."
            )
        if self.importance != "llm":
            raise RequestError(
                f"importance={self.importance} does not look into the LLM.",
                "Leave it out, or compress first, then ask.",
            )
        candidate = self._candidates(tokens, ratio, lambda _: None).candidate
        return _FinalPrune(tokens.grid.tokens, ratio.budget(tokens.grid.tokens), candidate.cpu(), self.layer)

    def _candidates(self, tokens: VideoTokens, ratio: Ratio, step: Step) -> _Candidates:
        """Sections 4.2 to 4.4: T_rep, T_event and their union."""
        features, n = tokens.features, tokens.grid.tokens
        step("graph")  # 4.2
        edges = edge_weights(features, far=self.far, past=tokens.past)
        before = 0 if tokens.past is None else len(tokens.past)
        weakest, change = weakest_edges(edges, self.ends)[before:], change_signal(edges)[before:]  # (T, H, W), (T,)
        edges = without_first(edges, before)
        step("communities")  # 4.3, 4.6
        strong, weights = strong_edges(edges, self.tau_sim, self.spatial, self.temporal)
        whole = communities(strong, weights, n, self.communities)
        place = cell_by_cell(tokens.grid.shape, whole.device) if self.split == "space" else None
        community = split_large(whole, self._limit(n), place)
        event = self._events(edges, weakest.flatten(), community, ratio.budget(n))  # Eq. 6
        size = torch.bincount(community)  # (C,)
        quota = (size * ratio.exact.numerator + ratio.exact.denominator - 1) // ratio.exact.denominator  # ceil(|c| r)
        if self.representatives == "coverage":
            step("coverage")
            score = None
            rank = coverage_ranks(features, community, edges.norm, quota, event)
            step("select")
        else:
            step("centrality")  # Eq. 4
            score = centrality(features, community, edges.norm)
            step("select")
            rank = ranks_in_groups(at_resolution(score), community)
            if self.quota == "code":
                quota = self._quota_of_code(score, community, size, event, ratio)
        representative = rank < quota[community]  # Eq. 5
        if self.representatives == "coverage":
            representative &= ~event  # events took places of their community's quota
        return _Candidates(representative, event, whole, community, rank, score, size, change)

    def _limit(self, tokens: int) -> int | None:
        """The most tokens of a community; None without a limit."""
        if self.max_community == "none":
            return None
        return sqrt_limit(tokens) if self.max_community == "sqrt" else int(self.max_community)

    def _events(self, edges: Edges, weakest: Tensor, community: Tensor, budget: int) -> Tensor:
        """(N,) bool: T_event, from the weakest edge (N,) of each token."""
        if not self.events:
            return torch.zeros_like(weakest, dtype=torch.bool)
        if isinstance(self.tau_diff, str):
            threshold = percentile_threshold(edges, self._percent(self.tau_diff))
        else:
            threshold = self.tau_diff
        event = event_mask(weakest, threshold)
        if self.event_share == 1 and self.prune != "fit":
            return event
        sharpness = at_resolution(1 - weakest.double())
        if self.varied:
            sharpness = varied(sharpness, event, community)
        return sharpest(sharpness, event, math.floor(Fraction(str(self.event_share)) * budget))

    @staticmethod
    def _quota_of_code(score: Tensor, community: Tensor, size: Tensor, event: Tensor, ratio: Ratio) -> Tensor:
        """(C,) how many of its most central tokens each community keeps in the authors' code."""
        kept = size * ratio.exact.numerator // ratio.exact.denominator  # |c| - ceil((1 - r) |c|)
        lost = ranks_in_groups(at_resolution(score), community) >= kept[community]
        planned = torch.where(size > 1, size - kept, len(score) + 1)  # single tokens are in none of its components
        actual = torch.bincount(community[lost & ~event], minlength=len(size))
        mean = torch.zeros(len(size), dtype=score.dtype, device=score.device).index_add(0, community, score) / size
        coherence = torch.where(size > 1, at_resolution(mean), -torch.inf)
        losing = most_coherent(coherence, planned, actual, len(score) - ratio.budget(len(score)))
        return torch.where(losing, kept, size)

    def _prune(
        self, candidates: _Candidates, budget: int, tokens: VideoTokens, llm: Llm
    ) -> tuple[Tensor, Tensor | None]:
        """The `budget` candidates of highest importance, in raster order, and their importance (None: all were kept).

        Ties go to the lower index. There are never too few candidates: the sum of ceil(|c| r) over communities is at
        least ceil(r N), and the authors' code drops at most N - ceil(r N).
        """
        candidate = candidates.candidate
        if len(candidate) == budget:
            return candidate, None
        if self.importance == "llm":
            rank = weight = llm.importance(candidate, self.layer)
        elif self.importance == "saliency":
            rank = weight = tokens.evidence["saliency"].tensor().flatten()[candidate].float()
        else:
            assert candidates.score is not None
            score = candidates.score[candidate]
            weight, rank = score.float(), at_resolution(score)
        if self.prune == "share":
            group = torch.unique(candidates.whole[candidate], return_inverse=True)[1]
            quota = equal_shares(group, budget)
            best = (ranks_in_groups(rank, group) < quota[group]).nonzero().squeeze(1)
        else:
            best = stable_topk(rank, budget).sort().values
        return candidate[best], weight[best]


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text[:10]) > 0


@dataclass(frozen=True)
class _Candidates:
    """Everything that sections 4.2 to 4.4 find out, before the final prune."""

    representative: Tensor  # (N,) bool
    event: Tensor  # (N,) bool
    whole: Tensor  # (N,) labels of communities before the split
    community: Tensor  # (N,) labels from 0
    rank: Tensor  # (N,) place among the representatives of the community
    score: Tensor | None  # (N,) centrality (Eq. 4); None where representatives cover their community instead
    size: Tensor  # (C,) tokens in each community
    change: Tensor  # (T,) float32: edges.change_signal

    @property
    def candidate(self) -> Tensor:
        """(A,) flat positions of T_rep and T_event, ascending."""
        return (self.representative | self.event).nonzero().squeeze(1)

    def fit(self, budget: int) -> Tensor:
        """(M,) all events, and as many representatives as the budget has left, ascending."""
        wanted = budget - int(self.event.sum())
        others = self.representative & ~self.event
        fitting = fit_representatives(self.rank, self.community, self.whole, others, wanted)
        return (fitting | self.event).nonzero().squeeze(1)

    def counts(self) -> dict[str, int]:
        return {
            "candidates": len(self.candidate),
            "representatives": int(self.representative.sum()),
            "events": int(self.event.sum()),
            "communities": len(self.size),
            "largest_community": int(self.size.max()),
        }


class _FinalPrune(LayerPruner):
    def __init__(self, tokens: int, budget: int, candidate: Tensor, layer: int) -> None:
        super().__init__(tokens, budget)
        self.candidate = candidate
        self.layer = layer
        self.depth = layer + 1

    def before(self, state: LayerState) -> Keep | None:
        return self.drop_to(self.candidate) if state.layer == 0 else None

    def after(self, state: LayerState, attention: LayerAttention) -> Keep | None:
        if state.layer != self.layer or self.finished:
            return None
        return self.drop_to(self.best(attention.last_query(), self.budget))


@dataclass(frozen=True)
class StSimDiffPlus(StSimDiff):
    """ST-SimDiff with other parts in the same places: one pass over the features, no model.

    Each part keeps to an idea of the paper where the published form loses it:

    - `ends=both`: "the tokens framing these transitions" (4.1) are those before it as well as those after it.
    - `far=8`: a transition may take its time; it breaks the edge over eight slots, where it breaks none between two.
    - `tau_diff=0.8`: every change is a candidate, since the sharpest come first and have their part of the budget.
    - `prune=fit, event_share=0.4`: similarity and difference both have their say (section 1) also at the budget, where
      the final prune by attention drops whole objects.
    - `varied=on`: the same change in many tokens of a community is one thing that happens, not many.
    - `representatives=coverage`: a community is condensed (4.1), not shown by its middle many times over. What a chain
      of similar neighbours adds to a background is represented besides it.
    - `split=space`: a large community is cut cell by cell, so that what repeats over time is condensed over time.
    - `tau_sim=0.6`: coverage does not need tight communities; a lower threshold leaves fewer tokens alone.
    """

    name: ClassVar[str] = "st-simdiff+"
    inside: ClassVar[bool] = False

    tau_sim: float = parameter(0.6, "an edge of G' is more similar than this (4.3)")
    tau_diff: float | str = parameter(0.8, "an event is less similar to its past than this (Eq. 6), or a percentile")
    split: str = parameter("space", "pieces of a large community: stretches of time, or patches of space", SPLITS)
    ends: str = parameter("both", "events: the later end of a broken edge (Eq. 6), or both ends", ENDS)
    far: int = parameter(8, "events: also the difference to the slot this many before, for slow changes; 0: not")
    event_share: float = parameter(0.4, "events take at most this share of the budget, the sharpest first")
    varied: bool = parameter(True, "events: the n-th of a community counts with 1/n of its sharpness")
    representatives: str = parameter(
        "coverage", "of a community: the most central tokens (Eq. 4), or those that cover it", REPRESENTATIVES
    )
    prune: str = parameter(
        "fit",
        "final prune: by importance (4.5), an equal share of every community, or none: a rate that fits",
        PRUNES,
    )
