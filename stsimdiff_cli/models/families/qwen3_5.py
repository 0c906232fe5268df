"""Qwen3.5 (Qwen team, 2026): Qwen3-VL's frames and prompts; most layers of its LLM are linear attention."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from .base import THINKING, thinking_kwargs
from .qwen3_vl import Qwen3VL


class Qwen35(Qwen3VL):
    """Two frames a slot, each after its time in words; no deepstack features.

    Three of four LLM layers are gated delta nets, which read one token after the other and have no positions. A token
    that is dropped is not read there: kept tokens follow each other. In the layers with attention they keep their
    positions. Importance is read in the first layer with attention from the one asked for. The linear layers give no
    attention weights, so methods that work inside the LLM are refused.

    The option `thinking` is the chat template's `enable_thinking`; left out, the template decides.
    """

    name: ClassVar[str] = "qwen3_5"
    options: ClassVar[dict[str, tuple[str, ...]]] = THINKING

    def encode(self, model: Any, pixels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Merged features of the last layer."""
        out = model.get_video_features(**pixels, return_dict=True).pooler_output
        return {"features": torch.cat(list(out)).view(*self._shape(pixels), -1)}

    @property
    def template_kwargs(self) -> dict[str, Any]:
        """Whether the model thinks before it answers, if the user says so."""
        return thinking_kwargs(self.checkpoint)
