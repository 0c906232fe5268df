"""LLaVA-OneVision (Li et al., 2024), the LLaVA family of the paper in transformers."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...records import Coverage, Layout, TokenGrid
from .base import Family
from .preprocess import normalise, resize, video_settings


class LlavaOnevision(Family):
    """One frame a slot, SigLIP patches pooled 2 x 2 (bilinear), and one learned newline after the whole video.

    The newline stands outside the grid, so it belongs to the prompt and does not count in N.
    """

    name: ClassVar[str] = "llava_onevision"

    @cached_property
    def _settings(self) -> dict[str, Any]:
        return video_settings(self.checkpoint)

    @property
    def frames_per_slot(self) -> int:
        """Frames are encoded one by one."""
        return 1

    def pixels(self, frames: Tensor, device: torch.device) -> dict[str, Tensor]:
        """(1, n, 3, height, width) at the encoder's fixed size, whatever the aspect ratio."""
        size = self._settings["size"]
        x = resize(frames, size["height"], size["width"], self._settings)
        return {"pixel_values_videos": normalise(x, self._settings, device)[None]}

    def features(self, model: Any, pixels: dict[str, Tensor]) -> Tensor:
        """Projected and pooled features (t, H, W, D), without the newline that newer versions append."""
        values = pixels["pixel_values_videos"]
        frames = values.shape[1]
        out = model.get_video_features(values, return_dict=True).pooler_output[0]
        side = math.isqrt(len(out) // frames)
        return out[: frames * side * side].view(frames, side, side, -1)

    def coverage_of(self, width: int, height: int) -> Coverage:  # noqa: ARG002
        """All whole patches; SigLIP's last pixels are in no patch (27 patches of 14 on 384 pixels)."""
        vision = self.config.vision_config
        part = vision.image_size // vision.patch_size * vision.patch_size / vision.image_size
        return Coverage(right=part, bottom=part)

    def last_attention(self, model: Any) -> nn.Module:
        """The layer that `vision_feature_layer` ends with."""
        layers = self._layers(model)
        layer = self.config.vision_feature_layer
        layer = layer if isinstance(layer, int) else layer[-1]
        # hidden_states[i] is the output of layer i - 1, and hidden_states[-1] that of the last.
        return layers[layer if layer < 0 else layer - 1].self_attn

    @staticmethod
    def _layers(model: Any) -> Any:
        tower = model.model.vision_tower
        return getattr(tower, "vision_model", tower).encoder.layers

    def key_projection(self, model: Any) -> Any:
        """SigLIP has a projection of its own for keys."""
        return self.last_attention(model).k_proj

    def keys(self, model: Any, inputs: Tensor) -> Tensor:
        """All heads side by side; (frames, patches, K) flattened to (patches, K)."""
        return self.key_projection(model)(inputs).flatten(0, -2)

    def to_grid(self, model: Any, patches: Tensor, pixels: dict[str, Tensor]) -> Tensor:
        """The model's own pooling."""
        frames = pixels["pixel_values_videos"].shape[1]
        pooled = model.model.apply_pooling(patches.view(frames, -1, patches.shape[-1]))  # (n, H W, C)
        side = math.isqrt(pooled.shape[1])
        return pooled.view(frames, side, side, -1)

    def layout_of(self, shape: tuple[int, int, int]) -> Layout:  # noqa: ARG002
        """One newline behind the last visual token."""
        return Layout(after=(self.placeholder,))

    def positions(self, model: Any, ids: Tensor, visual: Tensor, grid: TokenGrid) -> Tensor:  # noqa: ARG002
        """(1, L): 0, 1, 2, ..."""
        return torch.arange(len(ids), device=ids.device)[None]

    def embed_extra(self, model: Any, embeddings: Tensor, ids: Tensor, visual: Tensor) -> None:
        """A placeholder that is no visual token is the learned newline."""
        newline = (ids == self.placeholder) & (visual < 0)
        embeddings[newline] = model.model.image_newline.to(embeddings.dtype)
