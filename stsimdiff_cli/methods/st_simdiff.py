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

#: The orders of tokens in which a large community can be cut into consecutive runs.
SPLITS = ("time", "space")


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
            raise RequestError(f"tau_sim must be between -1 and 1, got {self.tau_sim}.", "The default is 0.8.")
        if self.communities != "components" and self.tau_sim < 0:
            raise RequestError(
                f"communities={self.communities} needs positive edge weights.", "Give a tau_sim of at least 0."
            )
        if self.layer < 0:
            raise RequestError(f"layer must be at least 0, got {self.layer}.", "Layers count from 0; the default is 1.")
        if isinstance(self.tau_diff, str):
            self._percent(self.tau_diff)
        elif not -1 <= self.tau_diff <= 1:
            raise RequestError(f"tau_diff must be between -1 and 1, got {self.tau_diff}.", "Give e.g. 0.2 or p95")

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
        candidates = self._candidates(tokens, ratio, step)
        step("importance")  # 4.5
        index, weight = self._prune(
            candidates.candidate, ratio.budget(tokens.grid.tokens), tokens, candidates.score, llm
        )
        kind = candidates.representative[index] * int(Kind.REPRESENTATIVE) + candidates.event[index] * int(Kind.EVENT)
        return Selection(
            index=index.cpu(),
            kind=kind.to(torch.uint8).cpu(),
            community=candidates.community[index].cpu(),
            importance=None if weight is None else weight.cpu(),
            counts={"tokens": tokens.grid.tokens, "kept": len(index), **candidates.counts()},
            traces={
                "change": candidates.change.cpu(),
                "regions": candidates.community.view(tokens.grid.shape).to(torch.int32).cpu(),
                "centrality": candidates.score[index].float().cpu(),
            },
        )

    def layer_pruner(self, tokens: VideoTokens, ratio: Ratio) -> LayerPruner:
        """Only candidates enter the LLM; the final prune (4.5) is after the attention of `layer`, as in the code."""
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
        """The `budget` candidates of highest importance, in raster order, and their importance (None: all were kept).

        Ties go to the lower index. There are never too few candidates: the sum of ceil(|c| r) over communities is at
        least ceil(r N).
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
    """Everything that sections 4.2 to 4.4 find out, before the final prune."""

    candidate: Tensor  # (A,) flat positions of T_rep and T_event
    representative: Tensor  # (N,) bool
    event: Tensor  # (N,) bool
    community: Tensor  # (N,) labels from 0
    score: Tensor  # (N,) centrality (Eq. 4)
    size: Tensor  # (C,) tokens in each community
    change: Tensor  # (T,) float32: edges.change_signal

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
