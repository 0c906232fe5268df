"""FrameFusion: merge what repeats from frame to frame, then prune what receives no attention."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import RequestError
from ..graph.merging import means, similarity_of_neighbours
from ..graph.numerics import at_resolution
from ..layer_pruning import Keep, LayerAttention, LayerPruner, LayerState
from ..ratio import Ratio
from ..records import Selection, VideoTokens
from .base import Llm, Method, Step, parameter, pass_through

_NO_NEIGHBOUR = -2.0  # below every cosine
#: S_threshold in the authors' example scripts, by the `model_type` of a model; for others, the default of their class.
THRESHOLDS = {"llava_video": 0.6, "nvila": 0.7, "qwen2_vl": 0.5, "internvl": 0.5}
_OTHERS = 0.6


@dataclass(frozen=True)
class FrameFusion(Method):
    """FrameFusion (Fu et al., ICCV 2025); code: thu-nics/FrameFusion.

    Before layer 0 and after the attention of every layer, each token is compared with the previous token of its cell
    (cosine of hidden states). Tokens at `similarity` or above are merged: a run of them and the token before the run
    become their mean, at the position of that token. When a smaller share than `least` of the tokens was merged,
    merging ends, and after the attention of the next layer the tokens that receive the least attention from the last
    prompt token (mean over heads) are dropped.

    - Exactly ceil(r N) tokens are left after the last step. The authors' cost is the mean share of tokens alive over
      28 layers; it can be computed from `alive_per_layer` of the pruner.
    - `similarity=auto` is the threshold of the authors' example script for the model's family (THRESHOLDS).
    - How many may still be merged is counted in tokens, not as a share. If more pairs are alike, the most similar ones
      are merged, as in the code, and ties go to the lower index. If the layers end before merging does, the last one
      prunes the surplus.
    - Cosines are in float32 with a resolution of 1e-6; the code computes them in the model's type.
    - At compress time, a merged token in the file is the mean of all its members as they enter the LLM. Inside the LLM,
      as in the code, hidden states are averaged step by step, each with the same weight.
    """

    name: ClassVar[str] = "framefusion"
    inside: ClassVar[bool] = True

    similarity: float | str = parameter(
        "auto", "cosine from which tokens merge (S_threshold); auto: 0.5 Qwen2-VL, InternVL, 0.7 NVILA, 0.6 others"
    )
    least: float = parameter(0.1, "merging ends when a smaller share was merged (N_threshold, 0.1 in the code)")

    def __post_init__(self) -> None:
        super().__post_init__()
        number = math.nan if isinstance(self.similarity, str) else self.similarity
        if self.similarity != "auto" and not -1 <= number <= 1:
            raise RequestError(
                f"similarity must be between -1 and 1, or auto, got {self.similarity}.", "The default is auto."
            )
        if not 0 <= self.least <= 1:
            raise RequestError(f"least must be between 0 and 1, got {self.least}.", "The default is 0.1.")

    @property
    def needs(self) -> frozenset[str]:
        """Hidden states and attention in the LLM."""
        return frozenset({"llm"})

    def layer_pruner(self, tokens: VideoTokens, ratio: Ratio) -> LayerPruner:
        """Merges while enough tokens are alike, then prunes."""
        _, height, width = tokens.grid.shape
        similarity = self.similarity
        if isinstance(similarity, str):
            similarity = THRESHOLDS.get(tokens.grid.model.family, _OTHERS)
        return _Fusion(tokens.grid.tokens, ratio.budget(tokens.grid.tokens), height * width, similarity, self.least)

    def select(self, tokens: VideoTokens, ratio: Ratio, llm: Llm, step: Step) -> Selection:
        """Run as many layers as needed on the recorded prompt; keep the tokens that are left, merged."""
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
        """Merge all pairs that are alike, or only the most similar ones if all would be more than the surplus."""
        order = torch.sort(self.index % self.cells, stable=True).indices  # by cell, then by time
        similarity = self._similarity_to_previous(hidden, order)  # (V,) in raster order
        alike = similarity >= at_resolution(torch.tensor(self.similarity))
        surplus = len(self.index) - self.budget
        if int(alike.sum()) >= surplus:
            alike = torch.zeros_like(alike)
            alike[self.best(similarity, surplus)] = True
        self.merging = int(alike.sum()) >= self.least * len(self.index)
        return self._join(hidden, order, alike)

    def _similarity_to_previous(self, hidden: Tensor, order: Tensor) -> Tensor:
        """Cosine of each token to the previous token of its cell, in units of the resolution: (V,) on the CPU."""
        cosine = torch.full((len(order),), _NO_NEIGHBOUR, dtype=torch.float64)
        same = (self.index[order][1:] - self.index[order][:-1]) % self.cells == 0
        cosine[order[1:][same]] = similarity_of_neighbours(hidden, order).cpu().double()[same]
        return at_resolution(cosine)

    def _join(self, hidden: Tensor, order: Tensor, alike: Tensor) -> Keep:
        """Merge every run of tokens marked `alike` (V,) into the token before the run: the mean of all of them."""
        lead = ~alike[order]  # by cell, then by time: the tokens that others merge into
        run = torch.cumsum(lead, 0) - 1  # (V,)
        leader = order[lead]  # (K,) places
        into = torch.empty_like(order)
        into[order] = leader[run]  # (V,) the place that each place is merged into
        survivor = torch.full((len(self.merged_into) + 1,), -1)  # the last for tokens already dropped
        survivor[self.index] = self.index[into]
        self.merged_into = survivor[self.merged_into]
        keep = (~alike).nonzero().squeeze(1)
        self.index = self.index[keep]
        grown = torch.bincount(run) > 1  # (K,) runs of more than one token: the others stay as they are
        member = grown[run]  # (V,) by cell, then by time
        number = torch.cumsum(grown, 0) - 1  # (K,)
        mean = means(hidden, order[member], number[run[member]], int(grown.sum()))
        return Keep(keep, mean, torch.searchsorted(keep, leader[grown]))
