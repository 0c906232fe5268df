"""The repetition penalty of checkpoints whose authors' generator never sees the ids of the prompt."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from vllm.v1.sample.logits_processor import AdapterLogitsProcessor


class AnswerPenalty(AdapterLogitsProcessor):
    """The checkpoint's penalty, on the words of the answer. vLLM's own counts those of the prompt too."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        super().__init__(vllm_config, device, is_pin_memory)
        settings = vllm_config.model_config.try_get_generation_config()
        self.penalty = float(settings.get("repetition_penalty") or 1.0)

    def is_argmax_invariant(self) -> bool:
        """False, because a penalty may change which word is best."""
        return False

    def new_req_logits_processor(self, params: Any) -> Any:  # noqa: ARG002
        """The same for every request."""
        return self.lowered

    def lowered(self, answer: list[int], scores: Tensor) -> Tensor:
        """Scores (vocabulary,) of the next word, with those of the words in the answer so far brought down."""
        given = torch.tensor(sorted(set(answer)), dtype=torch.int64, device=scores.device)
        before = scores[given]
        scores[given] = torch.where(before < 0, before * self.penalty, before / self.penalty)
        return scores
