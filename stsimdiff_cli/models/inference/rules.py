"""How answers are decoded: what transformers' `generate` would do, the settings of the checkpoint included."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from ..families.base import Family
from ..loading.quiet import quiet


@dataclass(frozen=True)
class Rules:
    """How the scores of the next token are changed, whether it is drawn by chance, and when an answer ends."""

    process: Callable[[Tensor, Tensor], Tensor]  # of ids (1, L) and scores (1, vocabulary)
    stop: Callable[[Tensor, None], Tensor]  # of ids (1, L): (1,) bool
    sample: bool


def prepare_rules(model: Any, family: Family, length: int, max_new_tokens: int, temperature: float) -> Rules:
    """The rules for a prompt of so many tokens; temperature 0 is greedy."""
    sampling = (
        {"do_sample": True, "temperature": temperature}
        if temperature > 0
        else {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    )
    prepared: list[Rules] = []

    def take(
        model: Any,  # noqa: ARG001
        input_ids: Tensor,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: Any,
        **_: Any,
    ) -> Tensor:
        prepared.append(Rules(logits_processor, stopping_criteria, generation_config.do_sample))
        return input_ids

    ids = torch.zeros(1, length, dtype=torch.int64, device=model.device)
    with quiet():
        model.generate(
            input_ids=ids,
            position_ids=ids,
            attention_mask=torch.ones_like(ids),
            past_key_values=DynamicCache(config=model.config.get_text_config()),
            max_new_tokens=max_new_tokens,
            custom_generate=take,  # in the place of its own loop
            **sampling,
            **family.generate_kwargs(model, length),
        )
    return prepared[0]
