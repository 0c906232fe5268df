"""FastV: half of the visual tokens are enough after layer 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import RequestError
from ..layer_pruning import Keep, LayerAttention, LayerPruner, LayerState
from ..ratio import Ratio
from ..records import Selection, VideoTokens
from .base import Llm, Method, Step, parameter, pass_through


@dataclass(frozen=True)
class FastV(Method):
    """FastV (Chen et al., ECCV 2024, "An Image is Worth 1/2 Tokens After Layer 2"); code: pkunlp-icler/FastV.

    All tokens run through the first K layers. Then those that receive the least attention from the last prompt token in
    layer K - 1 (mean over heads) are dropped; text and original positions are kept.

    - The score is that of the code. The paper's text averages over all tokens instead (FastV issue 14).
    - Exactly ceil(r N) tokens stay; the code keeps round(N (1 - R)).
    - The attention row of the last token is recomputed next to the fast kernel; the code falls back to eager attention.
    - At compress time the row is that of the recorded prompt, and the file holds the tokens as they enter the LLM.
    """

    name: ClassVar[str] = "fastv"
    inside: ClassVar[bool] = True

    k: int = parameter(2, "layers that see all tokens; the attention is that of the last of them (the paper's K)")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k < 1:
            raise RequestError(f"k must be at least 1, got {self.k}.", "The paper's default is 2.")

    @property
    def needs(self) -> frozenset[str]:
        """Attention in the LLM."""
        return frozenset({"llm"})

    def layer_pruner(self, tokens: VideoTokens, ratio: Ratio) -> LayerPruner:
        """Prunes once, after the attention of layer K - 1."""
        return _FastVPruner(tokens.grid.tokens, ratio.budget(tokens.grid.tokens), self.k)

    def select(self, tokens: VideoTokens, ratio: Ratio, llm: Llm, step: Step) -> Selection:
        """Run the first K layers on the recorded prompt and keep the tokens that are left."""
        return pass_through(tokens, self.layer_pruner(tokens, ratio), llm, step)


class _FastVPruner(LayerPruner):
    attention_only = True

    def __init__(self, tokens: int, budget: int, k: int) -> None:
        super().__init__(tokens, budget)
        self.depth = self.k = k

    def after(self, state: LayerState, attention: LayerAttention) -> Keep | None:
        if state.layer != self.k - 1 or self.finished:
            return None
        return self.drop_to(self.best(attention.last_query(), self.budget))
