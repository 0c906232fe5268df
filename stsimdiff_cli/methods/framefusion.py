"""FrameFusion: merge what repeats from frame to frame, then prune what is not attended to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import RequestError
from ..graph.numerics import at_resolution
from ..layer_pruning import Keep, LayerAttention, LayerPruner, LayerState
from ..ratio import Ratio
from ..records import Selection, VideoTokens
from .base import Llm, Method, Step, parameter, pass_through

_NO_NEIGHBOUR = -2.0  # below every cosine


@dataclass(frozen=True)
class FrameFusion(Method):
    """FrameFusion (Fu et al., ICCV 2025); code: thu-nics/FrameFusion.

    Before layer 0 and behind the attention of every layer, each token is compared with the one before it in its cell
    (cosine of hidden states). Those at `similarity` or above are merged: a run of them and the token before it become
    their mean, at the place of that token. When fewer than `least` of the tokens were merged, merging ends, and behind
    the attention of the next layer those go that the last prompt token attends to least (mean over heads).

    - Exactly ceil(r N) tokens are left behind the last step. The authors' cost is the mean share of tokens alive over
      28 layers; `alive_per_layer` of the pruner has what it takes to compute it.
    - What may still be merged is counted in tokens, not as a share. If more pairs are alike, the most similar are
      taken, as in the code, ties to the lower index. Where layers run out before merging has ended, the last one prunes
      what is too much.
    - Cosines in float32 with a resolution of 1e-6; the code takes them in the model's type.
    - At compress time, a merged token in the file is the mean of all its members as they enter the LLM; inside the LLM,
      as in the code, means of hidden states are taken step by step, each with the same weight.
    """

    name: ClassVar[str] = "framefusion"
    inside: ClassVar[bool] = True

    similarity: float = parameter(0.6, "cosine from which tokens merge (S_threshold; 0.6 LLaVA-Video, 0.7 NVILA)")
    least: float = parameter(0.1, "merging ends when a smaller share was merged (N_threshold, 0.1 in the code)")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not -1 <= self.similarity <= 1:
            raise RequestError(f"similarity={self.similarity} is no cosine.", "Give a number from -1 to 1, e.g. 0.6")
        if not 0 <= self.least <= 1:
            raise RequestError(f"least={self.least} is no share.", "Give a number from 0 to 1; the default is 0.1")

    @property
    def needs(self) -> frozenset[str]:
        """Hidden states and attention in the LLM."""
        return frozenset({"llm"})

    def layer_pruner(self, tokens: VideoTokens, ratio: Ratio) -> LayerPruner:
        """Merge until little is alike, then prune."""
        _, height, width = tokens.grid.shape
        return _Fusion(
            tokens.grid.tokens, ratio.budget(tokens.grid.tokens), height * width, self.similarity, self.least
        )

    def select(self, tokens: VideoTokens, ratio: Ratio, llm: Llm, step: Step) -> Selection:
        """Run the layers that it takes on the recorded prompt; keep what is left, merged."""
        return pass_through(tokens, self.layer_pruner(tokens, ratio), llm, step)


class _Fusion(LayerPruner):
    def __init__(self, tokens: int, budget: int, cells: int, similarity: float, least: float) -> None:
        super().__init__(tokens, budget)
        self.cells = cells
        self.similarity = similarity
        self.least = least
        self.merging = True

    def before(self, state: LayerState) -> Keep | None:
        return self._merge(state.hidden) if state.layer == 0 and not self.finished else None

    def after(self, state: LayerState, attention: LayerAttention) -> Keep | None:
        if self.finished:
            return None
        if self.merging and state.layer < state.layers - 1:
            return self._merge(state.hidden)
        return self.drop_to(self.best(attention.last_query(), self.budget))

    def _merge(self, hidden: Tensor) -> Keep:
        """Merge all pairs that are alike, or as many of the most similar as the budget asks for."""
        order = torch.sort(self.index % self.cells, stable=True).indices  # by cell, then by time
        similarity = self._to_the_one_before(hidden.float(), order)  # (V,) in raster order
        alike = similarity >= at_resolution(torch.tensor(self.similarity))
        surplus = len(self.index) - self.budget
        if int(alike.sum()) >= surplus:
            alike = torch.zeros_like(alike)
            alike[self.best(similarity, surplus)] = True
        self.merging = int(alike.sum()) >= self.least * len(self.index)
        return self._join(hidden, order, alike)

    def _to_the_one_before(self, hidden: Tensor, order: Tensor) -> Tensor:
        """Cosine of each token with the token before it in its cell, in units of the resolution: (V,) on the CPU."""
        unit = torch.nn.functional.normalize(hidden, dim=-1)[order.to(hidden.device)]
        found = torch.full((len(order),), _NO_NEIGHBOUR, dtype=torch.float64)
        same = (self.index[order][1:] - self.index[order][:-1]) % self.cells == 0
        found[order[1:][same]] = (unit[1:] * unit[:-1]).sum(-1).cpu().double()[same]
        return at_resolution(found)

    def _join(self, hidden: Tensor, order: Tensor, alike: Tensor) -> Keep:
        """Put every run of tokens marked `alike` into the token before it: its mean with them."""
        lead = ~alike[order]  # by cell and time: each starts a run of its own
        run = torch.cumsum(lead, 0) - 1  # (V,)
        leader = order[lead]  # (K,) places
        into = torch.empty_like(order)
        into[order] = leader[run]  # (V,) the place that each place goes to
        survivor = torch.full((len(self.merged_into) + 1,), -1)  # the last for tokens that went nowhere
        survivor[self.index] = self.index[into]
        self.merged_into = survivor[self.merged_into]
        sums = torch.zeros_like(hidden, dtype=torch.float32)
        sums.index_add_(0, into.to(hidden.device), hidden.float())
        size = torch.bincount(into, minlength=len(into)).to(hidden.device)
        keep = (~alike).nonzero().squeeze(1)
        self.index = self.index[keep]
        place = keep.to(hidden.device)
        mean = (sums[place] / size[place, None]).to(hidden.dtype)
        return Keep(keep, torch.where((size[place] == 1)[:, None], hidden[place], mean))
