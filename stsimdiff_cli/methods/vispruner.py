"""VisPruner: important tokens by attention in the vision encoder, then diverse ones of the rest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import RequestError
from ..graph.numerics import stable_topk, unit_slot
from ..ratio import Ratio
from ..records import Selection, VideoTokens
from .base import Llm, Method, Step, parameter, plain_selection, slot_budgets

#: How many tokens a round of the elimination drops at most (the code's constant).
_DROPPED = 8
#: Cosines closer than this are equal; it lies above the rounding error of float64. `numerics.RESOLUTION` would be too
#: coarse: every round ranks hundreds of cosines, and one exchange in the list changes all rounds after it.
_EQUAL = 1e-10


@dataclass(frozen=True)
class VisPruner(Method):
    """VisPruner (Zhang et al., ICCV 2025, arXiv 2412.01818); code: Theia-4869/VisPruner.

    Of an image's budget B, floor(rho B) tokens are important: those that receive the most attention in the vision
    encoder. The others are diverse: from the rest, listed by attention, rounds drop up to 8 tokens each until enough
    are left. A round compares the tokens at even places of the list with those at odd places and drops the even ones
    that are most similar to any odd one. The even ones that stay, most similar first, are listed before the odd ones.

    - Every slot corresponds to an image. Its budget is its even share of ceil(r N); the original gives every image the
      same.
    - Attention is that of [CLS] where the encoder has one (LLaVA-NeXT-Video, InternVL), as in the code. In others it is
      what a token receives from all tokens of its slot (the authors' advice, VisPruner issue 1). It is the mean over
      heads, merged or pooled like the features, from the last vision layer that is used; in LLaVA-NeXT-Video that is
      the code's, the second to last of CLIP.
    - Cosines are of tokens as they enter the LLM, also the authors' advice for merged tokens. The code takes the
      features before LLaVA's projector.
    - The code fails if a list has an odd length or if more tokens are to be dropped than half of it. Here the last
      token of an odd list is at an even place like the others, and a round drops at most as many as there are odd
      places.
    - If attention is equal, the token of lower index comes first. If tokens at even places are equally similar, those
      further down the list are dropped first. The code leaves both to an unstable sort. Cosines are in float64, so that
      as few as possible are equal; the code computes them in the model's type.
    - floor(rho B) is exact for the decimal rho.
    """

    name: ClassVar[str] = "vispruner"
    by_segment: ClassVar[bool] = True

    important_ratio: float = parameter(0.5, "share of the budget that attention fills (rho; the code's default)")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.important_ratio <= 1:
            raise RequestError(
                f"important_ratio must be between 0 and 1, got {self.important_ratio}.", "The default is 0.5."
            )

    @property
    def needs(self) -> frozenset[str]:
        """Attention in the vision encoder."""
        return frozenset({"saliency"})

    def select(self, tokens: VideoTokens, ratio: Ratio, llm: Llm, step: Step) -> Selection:  # noqa: ARG002
        """Choose ceil(r N) tokens, slot by slot."""
        _, rows, columns = tokens.grid.shape
        size = rows * columns
        features = tokens.features.tensor()  # (T, H, W, D)
        saliency = tokens.evidence["saliency"].tensor().float().flatten(1)  # (T, H W)
        step("select")
        kept, important = [], 0
        for t, share in enumerate(slot_budgets(tokens, ratio)):
            attended = math.floor(share * Fraction(str(self.important_ratio)))
            order = stable_topk(saliency[t], size)  # (H W,)
            if attended < share < size:  # otherwise there is nothing to compare
                x = unit_slot(features, t, torch.float64).flatten(0, 1)  # (H W, D)
                rest = order[attended:]
                order = torch.cat([order[:attended], rest[distinct(x[rest], share - attended)]])
            kept.append(t * size + order[:share].sort().values)
            important += attended
        index = torch.cat(kept).cpu()
        return plain_selection(tokens, index, important=important, diverse=len(index) - important)


def distinct(x: Tensor, count: int) -> Tensor:
    """The places (count,) of the unit vectors that the rounds of elimination leave of `x` (R, D); `count` >= 1."""
    similarity = torch.round(x @ x.T / _EQUAL)  # (R, R)
    left = torch.arange(len(x), device=x.device)
    while len(left) > count:
        even, odd = left[::2], left[1::2]
        drop = min(_DROPPED, len(left) - count, len(odd))
        nearest = similarity[even[:, None], odd].amax(dim=1)  # (even,)
        stays = stable_topk(-nearest, len(even) - drop)  # least similar first
        left = torch.cat([even[stays.flip(0)], odd])
    return left
