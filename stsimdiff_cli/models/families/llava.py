"""What the LLaVA families share: a ViT whose patch features are projected and pooled, and a plain LLM."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ...records import Sizing
from .base import Family
from .preprocess import CLIP, normalise, resize, video_settings


class Llava(Family):
    """One frame a slot, resized to the square of a SigLIP or CLIP encoder; positions 0, 1, 2, ..."""

    @cached_property
    def _settings(self) -> dict[str, Any]:
        """Settings of the preprocessing: size, filter, mean and standard deviation."""
        return video_settings(self.checkpoint, CLIP)

    def preprocess(self, frames: Tensor, sizing: Sizing, device: torch.device) -> dict[str, Tensor]:  # noqa: ARG002
        """(1, n, 3, height, width) at the encoder's fixed size, whatever the aspect ratio."""
        size = self._settings["size"]
        x = resize(frames, size["height"], size["width"], self._settings)
        return {"pixel_values_videos": normalise(x, self._settings, device)[None]}

    def last_attention(self, model: Any) -> nn.Module:
        """That of the layer that `vision_feature_layer` ends with."""
        layer = self.config.vision_feature_layer
        layer = layer if isinstance(layer, int) else layer[-1]
        # hidden_states[i] is the output of layer i - 1, and hidden_states[-1] that of the last.
        return tower_of(model).encoder.layers[layer if layer < 0 else layer - 1].self_attn


def tower_of(model: Any) -> Any:
    """The vision transformer: embeddings and encoder. Some versions of transformers wrap it in one more module."""
    tower = model.model.vision_tower
    return getattr(tower, "vision_model", tower)
