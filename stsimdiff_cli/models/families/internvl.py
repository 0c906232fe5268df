"""InternVL 2.5, 3 and 3.5 (Chen et al., 2024; Zhu et al., 2025; Wang et al., 2025) in transformers' classes."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...records import Sizing, TokenGrid
from .base import Family
from .preprocess import CLIP, checked, normalise, resize, square, video_settings

#: How the tokenizers of all these checkpoints spell the tokens of an image, and the chat templates a video.
_IMAGE, _BEGIN, _END, _VIDEO = "<IMG_CONTEXT>", "<img>", "</img>", "<video>"


class InternVL(Family):
    """One frame a slot, InternViT patches shuffled 2 x 2 into a token, and the frame's number in words before it.

    The words are not on the grid: they belong to the prompt, are always kept and do not count in N.
    """

    name: ClassVar[str] = "internvl"
    class_token: ClassVar[bool] = True
    placeholder_per_slot: ClassVar[bool] = True

    @cached_property
    def _settings(self) -> dict[str, Any]:
        """The image processor's, unless the video processor has the encoder's size.

        InternVL 3.5 came with video settings of 384 pixels and another mean, with which no InternViT was trained
        (github.com/OpenGVLab/InternVL, issues 1184 and 1222); InternVL 3 has none.
        """
        settings = video_settings(self.checkpoint, CLIP)
        if settings.get("size") != self._size:
            images = self.checkpoint.json("processor_config.json").get("image_processor")
            settings = images or self.checkpoint.json("preprocessor_config.json") or settings
        return checked(settings, self.checkpoint, CLIP)

    @cached_property
    def _size(self) -> dict[str, int]:
        height, width = self.config.vision_config.image_size
        return {"height": int(height), "width": int(width)}

    # --- vision ---

    @property
    def spread(self) -> str:
        """The authors' `get_index`."""
        return "middles"

    def preprocess(self, frames: Tensor, sizing: Sizing, device: torch.device) -> dict[str, Tensor]:  # noqa: ARG002
        """(n, 3, height, width) at the encoder's fixed size, whatever the aspect ratio; videos are not tiled."""
        x = resize(frames, self._size["height"], self._size["width"], self._settings)
        return {"pixel_values": normalise(x, self._settings, device)}

    def encode(self, model: Any, pixels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Shuffled and projected features, without the [CLS] token."""
        return {"features": square(model.get_image_features(**pixels, return_dict=True).pooler_output)}

    def last_attention(self, model: Any) -> nn.Module:
        """That of the layer that `vision_feature_layer` names."""
        layer = self.config.vision_feature_layer
        # hidden_states[i] is the output of layer i - 1, and hidden_states[-1] that of the last.
        return model.model.vision_tower.encoder.layer[layer if layer < 0 else layer - 1].attention

    def keys(self, model: Any, inputs: Tensor) -> Tensor:
        """Normalised where the encoder does so (6B); each frame's [CLS] token is still among the patches."""
        attention: Any = self.last_attention(model)
        return attention.k_norm(attention.k_proj(inputs)).flatten(0, -2)

    def to_grid(self, model: Any, patches: Tensor, pixels: dict[str, Tensor]) -> Tensor:
        """Without each frame's [CLS] token; then the mean over the patches that the model's own shuffle joins."""
        frames, width = len(pixels["pixel_values"]), patches.shape[-1]
        x = square(patches.view(frames, -1, width)[:, 1:])  # (n, rows, columns, C)
        shuffled = model.model.pixel_shuffle(x, scale_factor=self.config.downsample_ratio)  # (n, H, W, patches x C)
        return shuffled.unflatten(-1, (-1, width)).mean(-2)

    # --- language ---

    @cached_property
    def placeholder(self) -> int:
        """Frames are images to the LLM."""
        return int(self.config.image_token_id)

    def expand_placeholder(self, text: str, grid: TokenGrid) -> str:
        """`Frame1: <img>...</img>` and so on, one line a frame, in the place of the template's video."""
        frames = [f"Frame{number}: {_BEGIN}{_IMAGE}{_END}" for number in range(1, grid.shape[0] + 1)]
        return text.replace(_VIDEO, "\n".join(frames))
