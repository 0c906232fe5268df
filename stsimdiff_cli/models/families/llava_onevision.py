"""LLaVA-OneVision (Li et al., 2024), the LLaVA family of the paper in transformers."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from torch import Tensor

from ...records import Coverage, Layout
from .llava import Llava
from .preprocess import square


class LlavaOnevision(Llava):
    """One frame a slot, SigLIP patches pooled 2 x 2 (bilinear), and one learned newline after the whole video.

    The newline is not on the grid: it belongs to the prompt and does not count in N.
    """

    name: ClassVar[str] = "llava_onevision"

    def encode(self, model: Any, pixels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Projected and pooled features, without the newline that newer versions of transformers append."""
        values = pixels["pixel_values_videos"]
        frames = values.shape[1]
        out = model.get_video_features(values, return_dict=True).pooler_output[0]  # (t H W, D), or one row more
        side = math.isqrt(len(out) // frames)
        return {"features": out[: frames * side**2].view(frames, side, side, -1)}

    def coverage_of(self, width: int, height: int) -> Coverage:  # noqa: ARG002
        """All whole patches; SigLIP's last pixels are in no patch (27 patches of 14 on 384 pixels)."""
        vision = self.config.vision_config
        part = vision.image_size // vision.patch_size * vision.patch_size / vision.image_size
        return Coverage(right=part, bottom=part)

    def to_grid(self, model: Any, patches: Tensor, pixels: dict[str, Tensor]) -> Tensor:
        """Pooled by the model's own pooling."""
        frames = pixels["pixel_values_videos"].shape[1]
        return square(model.model.apply_pooling(patches.view(frames, -1, patches.shape[-1])))

    def layout_of(self, shape: tuple[int, int, int]) -> Layout:  # noqa: ARG002
        """One newline after the last visual token."""
        return Layout(after=(self.placeholder,))

    def embed_special(self, model: Any, embeddings: Tensor, ids: Tensor, visual: Tensor) -> None:
        """A placeholder that is not a visual token is the learned newline."""
        newline = (ids == self.placeholder) & (visual < 0)
        embeddings[newline] = model.model.image_newline.to(embeddings.dtype)
