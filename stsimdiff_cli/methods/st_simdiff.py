"""ST-SimDiff: similarity finds what repeats, difference finds what happens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import RequestError
from ..graph.centrality import centrality
from ..graph.communities import ALGORITHMS, cell_by_cell, communities, split_large, sqrt_limit
from ..graph.edges import Edges, change_signal, edge_weights, event_mask, percentile_threshold, strong_edges
from ..graph.numerics import at_resolution, stable_topk, top_by_score
from ..layer_pruning import Keep, LayerAttention, LayerPruner, LayerState
from ..ratio import Ratio
from ..records import Kind, Selection, VideoTokens
from .base import Llm, Method, Step, parameter

#: Orders in which a large community is cut into consecutive runs.
SPLITS = ("time", "space")


@dataclass(frozen=True)
class StSimDiff(Method):
    """ST-SimDiff (Luo et al., ICLR 2026), section 4 of the paper; the authors' code is bingjunluo/ST-SimDiff.

    Where the paper leaves a choice, or we differ from the released code:

    - The budget is the paper's ceil(r N). The code's "cost" is an average over 28 LLM layers instead.
    - Events are the later tokens of temporal edges (Eq. 6) and compete in the final prune like every candidate,
      as section 4.5 says; the code exempts them from its similarity step.
    - The graph is built on the tokens as they enter the LLM (Eq. 3), which is where the code builds it too.
    - A community larger than sqrt(N) is cut into consecutive runs of its tokens, in order of time unless `split=space`
      (`communities.split_large`).
    - `importance=centrality` needs no model: the centrality of Eq. 4 takes the place of attention in the final prune,
      and a token that is alone in its community counts as 1.
    """

    name: ClassVar[str] = "st-simdiff"
    streams: ClassVar[bool] = True
    inside: ClassVar[bool] = True

    tau_sim: float = parameter(0.8, "an edge of G' is more similar than this (4.3; the paper's optimum)")
    tau_diff: float | str = parameter(
        0.2, "an event is less similar to its past than this (Eq. 6); p95: above that percentile of differences (4.4)"
    )
    spatial: bool = parameter(True, "spatial edges (Eq. 1); a row of Table 3")
    temporal: bool = parameter(True, "temporal edges (Eq. 2); a row of Table 3")
    events: bool = parameter(True, "difference-based event tokens (4.4); a row of Table 3")
    communities: str = parameter("components", "how communities are found (4.3, 4.6)", ALGORITHMS)
    max_community: str = parameter("sqrt", "larger communities are split: sqrt(N), or none (4.6)", ("sqrt", "none"))
    split: str = parameter(
        "time", "pieces of a large community: stretches of time, or patches of space (not in the paper)", SPLITS
    )
    importance: str = parameter(
        "llm", "what ranks candidates in the final prune (4.5)", ("llm", "saliency", "centrality")
    )
    layer: int = parameter(1, "LLM layer whose attention is the importance, from 0: 1 is the second (4.5, 'shallow')")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not -1 <= self.tau_sim <= 1:
            raise RequestError(f"tau_sim={self.tau_sim} is no cosine.", "Give a number from -1 to 1, e.g. 0.8")
        if self.communities != "components" and self.tau_sim < 0:
            raise RequestError(f"communities={self.communities} needs edge weights above 0.", "Give tau_sim >= 0")
        if self.layer < 0:
            raise RequestError(f"layer={self.layer} is below 0.", "Layers count from 0; the default is 1")
        if isinstance(self.tau_diff, str):
            self._percent(self.tau_diff)
        elif not -1 <= self.tau_diff <= 1:
            raise RequestError(f"tau_diff={self.tau_diff} is no cosine.", "Give a number from -1 to 1, or e.g. p95")

    @property
    def needs(self) -> frozenset[str]:
        """The evidence of the final prune; centrality comes from the features themselves."""
        return frozenset() if self.importance == "centrality" else frozenset({self.importance})

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
        found = self._candidates(tokens, ratio, step)
        step("importance")  # 4.5
        index, weight = self._prune(found.candidate, ratio.budget(tokens.grid.tokens), tokens, found.score, llm)
        kind = found.representative[index] * int(Kind.REPRESENTATIVE) + found.event[index] * int(Kind.EVENT)
        return Selection(
            index=index.cpu(),
            kind=kind.to(torch.uint8).cpu(),
            community=found.community[index].cpu(),
            importance=None if weight is None else weight.cpu(),
            counts={"tokens": tokens.grid.tokens, "kept": len(index), **found.counts()},
            traces={
                "change": found.change.cpu(),
                "regions": found.community.view(tokens.grid.shape).to(torch.int32).cpu(),
                "centrality": found.score[index].float().cpu(),
            },
        )

    def layer_pruner(self, tokens: VideoTokens, ratio: Ratio) -> LayerPruner:
        """Candidates enter the LLM; the final prune (4.5) happens behind the attention of `layer`, as in the code."""
        if self.importance != "llm":
            raise RequestError(
                f"importance={self.importance} does not look into the LLM.",
                "Leave it out, or compress first, then ask.",
            )
        candidate = self._candidates(tokens, ratio, lambda _: None).candidate
        return _FinalPrune(tokens.grid.tokens, ratio.budget(tokens.grid.tokens), candidate.cpu(), self.layer)

    def _candidates(self, tokens: VideoTokens, ratio: Ratio, step: Step) -> _Candidates:
        """Sections 4.2 to 4.4: T_rep and T_event, and their union."""
        features, n = tokens.features, tokens.grid.tokens
        step("graph")  # 4.2
        edges = edge_weights(features)
        step("communities")  # 4.3, 4.6
        strong, weights = strong_edges(edges, self.tau_sim, self.spatial, self.temporal)
        community = communities(strong, weights, n, self.communities)
        place = cell_by_cell(tokens.grid.shape, community.device) if self.split == "space" else None
        community = split_large(community, sqrt_limit(n) if self.max_community == "sqrt" else None, place)
        step("centrality")  # Eq. 4
        score = centrality(features, community, edges.norm)
        step("select")
        size = torch.bincount(community)  # (C,)
        quota = (size * ratio.exact.numerator + ratio.exact.denominator - 1) // ratio.exact.denominator  # ceil(|c| r)
        representative = top_by_score(score, community, quota)  # Eq. 5
        event = self._events(edges)  # Eq. 6
        candidate = (representative | event).nonzero().squeeze(1)
        return _Candidates(candidate, representative, event, community, score, size, change_signal(edges))

    def _events(self, edges: Edges) -> Tensor:
        """(N,) bool: T_event."""
        if not self.events:
            return torch.zeros(math.prod(edges.shape), dtype=torch.bool, device=edges.later.device)
        if isinstance(self.tau_diff, str):
            threshold = percentile_threshold(edges, self._percent(self.tau_diff))
        else:
            threshold = self.tau_diff
        return event_mask(edges, threshold).flatten()

    def _prune(
        self, candidate: Tensor, budget: int, tokens: VideoTokens, score: Tensor, llm: Llm
    ) -> tuple[Tensor, Tensor | None]:
        """The candidates of highest importance, in raster order, and their importance; ties to the lower index.

        There are never too few: the sum of ceil(|c| r) over communities is at least ceil(r N).
        """
        if len(candidate) == budget:
            return candidate, None
        if self.importance == "llm":
            rank = weight = llm.importance(candidate, self.layer)
        elif self.importance == "saliency":
            rank = weight = tokens.evidence["saliency"].tensor().flatten()[candidate].float()
        else:
            weight = score[candidate].float()
            rank = at_resolution(score[candidate])
        best = stable_topk(rank, budget).sort().values
        return candidate[best], weight[best]


@dataclass(frozen=True)
class _Candidates:
    """What is known before the final prune."""

    candidate: Tensor  # (C,) flat positions of T_rep and T_event
    representative: Tensor  # (N,) bool
    event: Tensor  # (N,) bool
    community: Tensor  # (N,)
    score: Tensor  # (N,) centrality
    size: Tensor  # tokens of each community
    change: Tensor  # (T,) float32

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
