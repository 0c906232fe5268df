"""Where an answer looks: attention from its tokens to the visual tokens, mean over layers and heads.

The query that a token of the answer comes from counts, not the token itself: for the first one that is the last token
of the prompt. Attention weights say what the LLM read, not why it said something.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from ...records import Prompt, TokenGrid
from .attention_tap import attach_tap, last_query_attention
from .language_model import LanguageModel


class AnswerAttention:
    """Adds up attention to the tokens of a prompt while an LLM, loaded with `attention_rows`, answers."""

    def __init__(self, prompt: Prompt) -> None:
        self.prompt = prompt
        self._total = torch.zeros(len(prompt.ids))

    @contextmanager
    def watching(self, language: LanguageModel) -> Iterator[None]:
        """Within the block, what the LLM computes counts."""
        self._total = self._total.to(language.device)
        with ExitStack() as taps:
            for layer in language.model.get_decoder().layers:
                if hasattr(layer, "self_attn"):  # else its attention is linear
                    taps.enter_context(attach_tap(layer.self_attn, self._add))
            yield

    def _add(self, query: Tensor, key: Tensor, mask: Tensor | None, scaling: float) -> None:
        if key.shape[2] >= len(self._total):  # else it is not the prompt's last token, nor one of the answer
            self._total += last_query_attention(query, key, mask, scaling)[: len(self._total)]

    def slots(self, grid: TokenGrid) -> tuple[float, ...]:
        """The share of each slot (T,) in the attention to visual tokens; they add up to 1. () without any."""
        visual = self.prompt.visual >= 0
        weights = self._total.cpu()[visual]
        total = float(weights.sum())
        if not total:
            return ()
        count, rows, columns = grid.shape
        shares = torch.zeros(count).index_add(0, self.prompt.visual[visual] // (rows * columns), weights)
        return tuple((shares / total).tolist())
