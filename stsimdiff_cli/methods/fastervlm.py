"""FasterVLM: the tokens that the vision encoder attends to most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..graph.numerics import stable_topk
from ..ratio import Ratio
from ..records import Selection, VideoTokens
from .base import Llm, Method, Step, plain_selection, slot_budgets


@dataclass(frozen=True)
class FasterVLM(Method):
    """FasterVLM (Zhang et al., arXiv 2412.01818); the authors' code is Theia-4869/FasterVLM.

    Every slot of the grid is an image of the original: it keeps the tokens with the highest attention in the last
    vision layer that the model uses. Tokens stay as they are and in raster order. Where we differ:

    1. The original ranks by the attention of [CLS]. The vision encoders of video models have no [CLS], so a token's
       rank is the attention that it receives from all tokens of its slot, mean over heads and queries (saliency).
    2. The original ranks patches before the projector. Here attention is pooled or merged as the features are, and
       what is ranked are the tokens that the LLM receives.
    3. The original keeps a fixed number of tokens in every image. Here the video keeps ceil(r N), and the budgets of
       slots differ by one where that cannot be divided. Below one token a slot, some slots keep none.
    4. Equal attention: the token of lower index wins. The original leaves this to the sorting routine.
    """

    name: ClassVar[str] = "fastervlm"

    @property
    def needs(self) -> frozenset[str]:
        """Attention in the vision encoder."""
        return frozenset({"saliency"})

    def select(self, tokens: VideoTokens, ratio: Ratio, llm: Llm, step: Step) -> Selection:  # noqa: ARG002
        """Choose ceil(r N) tokens."""
        saliency = tokens.evidence["saliency"].tensor().flatten(1)  # (T, H W)
        area = saliency.shape[1]
        chosen = [
            stable_topk(saliency[t], budget).sort().values + t * area
            for t, budget in enumerate(slot_budgets(tokens, ratio))
        ]
        return plain_selection(tokens, torch.cat(chosen).cpu())
