"""MiniCPM-V 4.6 (OpenBMB, 2026): SigLIP with merging inside, an LLM of Qwen3.5's kind, frames without times."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...records import Sizing, TokenGrid
from .base import Family
from .preprocess import HALF, normalise, resize, video_settings

#: Patches along a side of the square that becomes one token: merged twice by two, or once.
_SIDES = {"16x": 4, "4x": 2}


class MiniCPMV46(Family):
    """One frame a slot at its own aspect ratio and about `scale_resolution` squared pixels; no words between frames.

    A frame is one view, which its processor makes with `max_slice_nums=1` and `use_image_id=False`. By default that
    processor also cuts larger frames into slices, whose tokens do not make one grid.

    A token is 4 x 4 patches. With the option `downsample=4x` it is 2 x 2: the layer that merges inside the encoder is
    left out. The LLM is Qwen3.5's, with positions 0, 1, 2, ...; what that family says of its layers holds here.
    """

    name: ClassVar[str] = "minicpmv4_6"
    options: ClassVar[dict[str, tuple[str, ...]]] = {"downsample": tuple(_SIDES)}
    placeholder_per_slot: ClassVar[bool] = True

    @cached_property
    def _settings(self) -> dict[str, Any]:
        return video_settings(self.checkpoint, HALF)

    @property
    def _mode(self) -> str:
        """How many patches become a token, in the words of the configuration."""
        return self.checkpoint.options.get("downsample") or str(self.config.downsample_mode)

    # --- vision ---

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The size that frames are resized to: whole tokens, and about the same area whatever the frame's was."""
        aspect = width / height
        rows = int(self._settings.get("scale_resolution", 448) / math.sqrt(aspect))
        cell = int(self.config.vision_config.patch_size) * _SIDES[self._mode]
        return _whole(rows, cell), _whole(int(rows * aspect), cell)

    def preprocess(self, frames: Tensor, sizing: Sizing, device: torch.device) -> dict[str, Tensor]:  # noqa: ARG002
        """The patches of all frames side by side, (1, 3, patch, patches x patch), and each frame's rows and columns."""
        height, width = self.size(*frames.shape[1:3])
        x = normalise(resize(frames, height, width, self._settings), self._settings, device)  # (n, 3, height, width)
        side = int(self.config.vision_config.patch_size)
        h, w = height // side, width // side
        x = x.view(len(x), 3, h, side, w, side).permute(1, 3, 0, 2, 4, 5)  # channel, y, frame, row, column, x
        return {
            "pixel_values_videos": x.reshape(1, 3, side, -1),
            "target_sizes_videos": torch.tensor([[h, w]] * len(frames), dtype=torch.int32, device=device),
        }

    def _shape(self, pixels: dict[str, Tensor]) -> tuple[int, int, int]:
        """t, H, W of the token grid."""
        sizes, side = pixels["target_sizes_videos"], _SIDES[self._mode]
        h, w = sizes[0].tolist()
        return len(sizes), h // side, w // side

    def encode(self, model: Any, pixels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Merged and projected features."""
        out = model.get_video_features(**pixels, downsample_mode=self._mode, return_dict=True).pooler_output
        return {"features": torch.cat(list(out)).view(*self._shape(pixels), -1)}

    def last_attention(self, model: Any) -> nn.Module:
        """That of the last layer."""
        return model.model.vision_tower.encoder.layers[-1].self_attn

    def to_grid(self, model: Any, patches: Tensor, pixels: dict[str, Tensor]) -> Tensor:  # noqa: ARG002
        """Mean over what is left of each token's square in the last layer, in rows."""
        t, h, w = self._shape(pixels)
        side = math.isqrt(len(patches) // (t * h * w))
        return patches.view(t, h, side, w, side, -1).mean((2, 4))

    # --- language ---

    def expand_placeholder(self, text: str, grid: TokenGrid) -> str:
        """Every frame between the tokens of an image."""
        words = self.tokenizer
        frame = f"{words.image_start_token}{words.video_token}{words.image_end_token}"
        return text.replace(words.video_token, frame * grid.shape[0])


def _whole(edge: int, cell: int) -> int:
    """The multiple of `cell` that is nearest to `edge`, at least one."""
    return max(round(edge / cell) * cell, cell)
