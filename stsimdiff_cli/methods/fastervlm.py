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

    Every slot of the grid corresponds to an image of the original: it keeps the tokens with the highest attention in
    the last vision layer that the model uses. Tokens stay as they are, in raster order. Where we differ:

    1. The original ranks by the attention of [CLS], mean over heads. So do we where the encoder has a [CLS]
       (LLaVA-NeXT-Video, InternVL). In the others, tokens are ranked by the attention that they receive from all tokens
       of their slot, mean over heads and queries. Both are the evidence `saliency`.
    2. The original ranks patches before the projector. Here attention is pooled or merged as the features are, and the
       tokens that the LLM receives are ranked.
    3. The original keeps a fixed number of tokens in every image. Here the video keeps ceil(r N), and the budgets of
       slots differ by one where it does not divide evenly. With less than one token per slot, some slots keep none.
    4. If attention is equal, the token of lower index wins. The original leaves this to the sorting routine.
    """

    name: ClassVar[str] = "fastervlm"
    by_segment: ClassVar[bool] = True

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
