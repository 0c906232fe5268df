"""FitPrune: a schedule that deletes, layer by layer, what neither text nor image attends to."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from ..layer_pruning import Keep, LayerAttention, LayerPruner, LayerState
from ..ratio import Ratio
from ..records import Selection, VideoTokens
from .base import Llm, Method, Step, pass_through

#: Tokens (of 576) that the authors' scheme for LLaVA-1.5-7B deletes after the attention of each of 32 layers, to save
#: 60 % of the computation.
SCHEDULE = (14, 33, 89, 36, 36, 20, 55, 21, 18, 4, 7, 5, 2, 5, 7, 4, 26, 5, 11, 24, 4, 18, 2, 1, 0, 0, 1, 0, 1, 0, 0, 0)


@dataclass(frozen=True)
class FitPrune(Method):
    """FitPrune (Ye et al., AAAI 2025, arXiv 2409.10197); code: ywh187/FitPrune.

    After the attention of every layer, the tokens with the lowest product of two attentions are deleted: the attention
    that a token receives from the text after the video (cross) and from visual tokens (self), each the maximum over
    heads, then the mean over queries.

    - The authors fit the number of tokens that each layer deletes once per model and per amount, on sample questions.
      Here every model uses the profile of their published scheme for 60 % (SCHEDULE), stretched in proportion to its
      depth and scaled so that exactly ceil(r N) tokens are alive after the last layer. (For other models the authors
      advise ratios, and a fit of one's own.) So r is the final count, not the mean over layers.
    - Only the attention rows that the scores need are recomputed, in chunks, next to the fast kernel.
    - Ties go to the lower index. At compress time all layers that delete anything are run on the recorded prompt.
    """

    name: ClassVar[str] = "fitprune"
    inside: ClassVar[bool] = True

    @property
    def needs(self) -> frozenset[str]:
        """Attention in the LLM."""
        return frozenset({"llm"})

    def layer_pruner(self, tokens: VideoTokens, ratio: Ratio) -> LayerPruner:
        """Deletes after the attention of every layer."""
        return _Schedule(tokens.grid.tokens, ratio.budget(tokens.grid.tokens))

    def select(self, tokens: VideoTokens, ratio: Ratio, llm: Llm, step: Step) -> Selection:
        """Run the layers on the recorded prompt and keep the tokens that are left."""
        return pass_through(tokens, self.layer_pruner(tokens, ratio), llm, step)


class _Schedule(LayerPruner):
    def after(self, state: LayerState, attention: LayerAttention) -> Keep | None:
        alive = alive_after(state.layer, state.layers, len(self.merged_into), self.budget)
        if alive == len(self.index):
            return None
        cross, own = attention.cross_and_self()
        return self.drop_to(self.best(cross * own, alive))


def alive_after(layer: int, layers: int, tokens: int, budget: int) -> int:
    """How many of the tokens are alive after layer `layer` (from 0) of `layers`: `budget` after the last.

    Up to this layer, the same share of all deletions has happened as in SCHEDULE at the same share of the depth,
    interpolated linearly between layers. The number of deletions is rounded down in exact arithmetic.
    """
    depth = Fraction(layer + 1, layers) * len(SCHEDULE)
    whole = depth.numerator // depth.denominator
    part = (depth - whole) * SCHEDULE[whole] if whole < len(SCHEDULE) else Fraction(0)
    share = (sum(SCHEDULE[:whole]) + part) / sum(SCHEDULE)
    deleted = share * (tokens - budget)
    return tokens - deleted.numerator // deleted.denominator
