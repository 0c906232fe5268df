"""LLaVA-NeXT-Video (Zhang et al., 2024): CLIP at 336 pixels and a Vicuna, in transformers' classes."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import ModelError
from ...records import Coverage, Sizing
from .llava import Llava
from .preprocess import CLIP, normalise, resize, square, video_settings


class LlavaNextVideo(Llava):
    """One frame a slot, the middle square of the frame; CLIP patches pooled 2 x 2 before the projector, no newline.

    Features come from the second to last layer of an encoder with a [CLS] token. [CLS] is not a token of the grid: it
    is left out of the features and of the evidence, so its key and the attention that it receives are dropped. A
    patch's saliency is what it receives from [CLS], so that a frame's saliencies add up to less than 1 before pooling.
    """

    name: ClassVar[str] = "llava_next_video"
    class_token: ClassVar[bool] = True

    @cached_property
    def _settings(self) -> dict[str, Any]:
        return video_settings(self.checkpoint, CLIP, crops=True)

    def preprocess(self, frames: Tensor, sizing: Sizing, device: torch.device) -> dict[str, Tensor]:  # noqa: ARG002
        """(1, n, 3, height, width): the shorter side resized to the encoder's, then the middle cropped."""
        x = resize(frames, *self.size(*frames.shape[1:3]), self._settings)
        if self._settings.get("do_center_crop", True):
            x = _center_crop(x, self._settings["crop_size"])
        return {"pixel_values_videos": normalise(x, self._settings, device)[None]}

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The size that frames are resized to before they are cropped; the longer side is rounded down."""
        size = self._settings["size"]
        if "shortest_edge" not in size:
            return size["height"], size["width"]
        edge, short = size["shortest_edge"], min(height, width)
        return int(edge * height / short), int(edge * width / short)

    def coverage_of(self, width: int, height: int) -> Coverage:
        """The middle square of the frame."""
        if not self._settings.get("do_center_crop", True):
            return Coverage()
        x, y = (max(0.0, (1 - min(width, height) / side) / 2) for side in (width, height))
        return Coverage(x, y, 1 - x, 1 - y)

    def encode(self, model: Any, pixels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Pooled and projected features."""
        values = pixels["pixel_values_videos"]
        out = torch.cat(list(model.get_video_features(values, return_dict=True).pooler_output))
        return {"features": square(out.view(values.shape[1], -1, out.shape[-1]))}

    def to_grid(self, model: Any, patches: Tensor, pixels: dict[str, Tensor]) -> Tensor:  # noqa: ARG002
        """Without [CLS], which comes first in every frame, and pooled over the windows of the model's own pooling."""
        x = patches.view(pixels["pixel_values_videos"].shape[1], -1, patches.shape[-1])
        if self.config.vision_feature_select_strategy == "default":
            x = x[:, 1:]
        pool = F.max_pool2d if self.config.spatial_pool_mode == "max" else F.avg_pool2d
        return pool(square(x).permute(0, 3, 1, 2), self.config.spatial_pool_stride).permute(0, 2, 3, 1)


def _center_crop(x: Tensor, size: dict[str, int]) -> Tensor:
    """The middle of (n, 3, h, w), as transformers crops it: an odd rest is one pixel more below and on the right.

    ModelError if the frames are smaller than that.
    """
    height, width = size["height"], size["width"]
    if x.shape[-2] < height or x.shape[-1] < width:
        raise ModelError(
            "The checkpoint crops frames to more than the size it resizes them to.",
            "Download its preprocessor_config.json again.",
        )
    top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
    return x[..., top : top + height, left : left + width]
