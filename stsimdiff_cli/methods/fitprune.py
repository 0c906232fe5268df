"""FitPrune: a schedule that deletes, layer by layer, what neither text nor image attends to."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from ..layer_pruning import Keep, LayerAttention, LayerPruner, LayerState
from ..ratio import Ratio
from ..records import Selection, VideoTokens
from .base import Llm, Method, Step, pass_through

#: Tokens of an image in LLaVA-1.5, for which the schemes were fitted.
IMAGE = 576
#: The authors' schemes for LLaVA-1.5-7B: tokens of 576 that are deleted after the attention of each of 32 layers, by
#: the percent of computation that they save.
SCHEMES = {
    0: (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    10: (0, 0, 1, 2, 1, 0, 1, 4, 5, 5, 11, 4, 2, 2, 0, 0, 1, 1, 2, 4, 2, 10, 1, 1, 1, 2, 1, 1, 0, 1, 0, 0),
    20: (0, 0, 3, 3, 1, 1, 4, 16, 14, 15, 24, 4, 2, 3, 2, 0, 6, 0, 5, 13, 4, 19, 2, 1, 1, 1, 1, 1, 2, 1, 0, 0),
    30: (0, 0, 7, 6, 4, 5, 16, 40, 24, 21, 24, 4, 2, 3, 4, 0, 16, 0, 11, 26, 6, 32, 3, 1, 0, 1, 2, 2, 4, 0, 0, 0),
    40: (0, 1, 21, 13, 14, 11, 41, 53, 29, 15, 14, 5, 1, 4, 5, 1, 26, 1, 13, 28, 6, 27, 2, 1, 0, 0, 1, 1, 2, 0, 0, 0),
    50: (3, 7, 49, 24, 29, 17, 59, 41, 26, 8, 10, 6, 2, 5, 7, 2, 30, 3, 13, 27, 5, 23, 2, 1, 0, 0, 1, 1, 2, 0, 0, 0),
    55: (6, 17, 69, 31, 34, 19, 59, 30, 23, 6, 8, 7, 2, 5, 8, 2, 29, 4, 12, 25, 4, 19, 2, 1, 0, 0, 1, 0, 1, 0, 0, 0),
    60: (14, 33, 89, 36, 36, 20, 55, 21, 18, 4, 7, 5, 2, 5, 7, 4, 26, 5, 11, 24, 4, 18, 2, 1, 0, 0, 1, 0, 1, 0, 0, 0),
    70: (48, 79, 118, 41, 33, 17, 36, 9, 9, 2, 3, 2, 1, 3, 4, 8, 18, 7, 8, 20, 4, 13, 2, 1, 0, 0, 1, 0, 1, 0, 0, 0),
    80: (128, 127, 118, 35, 26, 8, 13, 3, 2, 1, 0, 0, 0, 2, 1, 8, 7, 8, 5, 11, 2, 6, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0),
    90: (262, 153, 80, 19, 13, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 1, 2, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0),
}


@dataclass(frozen=True)
class FitPrune(Method):
    """FitPrune (Ye et al., AAAI 2025, arXiv 2409.10197); code: ywh187/FitPrune.

    After the attention of every layer, the tokens with the lowest product of two attentions are deleted: the attention
    that a token receives from the text after the video (cross) and from visual tokens (self), each the maximum over
    heads, then the mean over queries.

    - The authors fit the number of tokens that each layer deletes once per model and per amount, on sample questions.
      Their code has the outcome for LLaVA-1.5-7B and eleven amounts (SCHEMES). Here every model uses these: the two
      schemes that leave the next larger and the next smaller share of tokens are interpolated linearly, so that exactly
      ceil(r N) tokens are alive after the last layer, and layers are stretched in proportion to the depth. Where r is
      what a scheme leaves, 32 layers delete what it says. Below the last scheme (37 of 576) that one is scaled. (For
      other models the authors advise ratios, and a fit of one's own.)
    - So r is the final count: neither the share of computation nor the mean over layers.
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
    attention_only = True

    def after(self, state: LayerState, attention: LayerAttention) -> Keep | None:
        alive = alive_after(state.layer, state.layers, len(self.merged_into), self.budget)
        if alive == len(self.index):
            return None
        cross, own = attention.cross_and_self()
        return self.drop_to(self.best(cross * own, alive))


def alive_after(layer: int, layers: int, tokens: int, budget: int) -> int:
    """How many of the tokens are alive after layer `layer` (from 0) of `layers`: `budget` after the last.

    Interpolated linearly between schemes and between layers. The number of deletions is rounded down in exact
    arithmetic.
    """
    deleted = _deleted(Fraction(layer + 1, layers), Fraction(tokens - budget, tokens)) * tokens
    return tokens - deleted.numerator // deleted.denominator


def _deleted(depth: Fraction, share: Fraction) -> Fraction:
    """The share of tokens that is deleted up to a share of the depth, if `share` is deleted in all."""
    schemes = list(SCHEMES.values())
    above = next((i for i, scheme in enumerate(schemes) if sum(scheme) >= share * IMAGE), None)
    if above is None:  # more than the last scheme
        return _up_to(depth, schemes[-1]) * share * IMAGE / sum(schemes[-1])
    if above == 0:
        return Fraction(0)
    fewer, more = schemes[above - 1], schemes[above]
    weight = (share * IMAGE - sum(fewer)) / (sum(more) - sum(fewer))
    return (1 - weight) * _up_to(depth, fewer) + weight * _up_to(depth, more)


def _up_to(depth: Fraction, scheme: tuple[int, ...]) -> Fraction:
    """The share of an image's tokens that a scheme deletes up to a share of the depth."""
    layers = depth * len(scheme)
    whole = layers.numerator // layers.denominator
    part = (layers - whole) * scheme[whole] if whole < len(scheme) else Fraction(0)
    return (sum(scheme[:whole]) + part) / IMAGE
