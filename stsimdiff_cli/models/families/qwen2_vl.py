"""Qwen2-VL (Wang et al., 2024): native resolution, two frames a slot, three-part rotary positions."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...errors import VideoError
from ...records import Sizing, TokenGrid
from .base import Family
from .preprocess import CLIP, fit_area, normalise, resize, video_settings

#: What the authors' `fetch_video` allows (package qwen_vl_utils): tokens of a frame at the least and at the most, and
#: of the whole video.
_LEAST, _MOST, _WHOLE = 128, 768, 128_000 * 0.9
#: Frames of a slot in the authors' code and in all their checkpoints.
_SLOT = 2
#: The bounds of transformers' video processor for a checkpoint that states none.
_DEFAULT_BOUNDS = (128 * 28**2, 768 * 28**2)


class Qwen2VL(Family):
    """Two frames a slot (`temporal_patch_size`), 2 x 2 patches a token; the grid follows the video's aspect ratio.

    The bounds in the published preprocessor_config.json are for images. For videos the authors have a rule in code,
    which holds here, unless the checkpoint says whether frames are capped (`cap_pixels_per_frame`): then it was saved
    with settings for videos, and they hold as transformers' video processor reads them. A checkpoint whose slots are
    not of two frames, like the embedded ones, is none of the authors: its file holds too, and frames and their times
    are as they are everywhere else.
    """

    name: ClassVar[str] = "qwen2_vl"
    native_resolution: ClassVar[bool] = True
    _channels: ClassVar[dict[str, list[float]]] = CLIP

    @cached_property
    def _settings(self) -> dict[str, Any]:
        return video_settings(self.checkpoint, self._channels)

    @property
    def _vision(self) -> Any:
        return self.config.vision_config

    @property
    def _merge(self) -> int:
        """Patches along a side of the square that becomes one token."""
        return int(self._vision.spatial_merge_size)

    @property
    def _cell(self) -> int:
        """Pixels along a side of the square that becomes one token."""
        return int(self._vision.patch_size * self._merge)

    # --- vision ---

    @property
    def frames_per_slot(self) -> int:
        """`temporal_patch_size`."""
        return int(self._vision.temporal_patch_size)

    @property
    def _by_authors(self) -> bool:
        """Whether the authors' code could run this checkpoint."""
        return self.frames_per_slot == _SLOT

    @property
    def spread(self) -> str:
        """`torch.linspace` in float32, rounded, as in the authors' package."""
        return "rounded-float32" if self._by_authors else "truncated"

    def size(self, height: int, width: int, sizing: Sizing) -> tuple[int, int]:
        """The size that frames are resized to: see `fit_area`. VideoError if they are 200 times as long as wide."""
        if max(height, width) > 200 * min(height, width):
            raise VideoError(
                f"Frames of {width} x {height} pixels are too narrow for Qwen-VL (200 : 1).", "Crop or pad the video."
            )
        return fit_area((height, width), self._cell, self._frame_bounds(sizing))

    def _frame_bounds(self, sizing: Sizing) -> tuple[float, float]:
        """Least and most pixels of a frame: the authors' rule, or what the checkpoint's file says.

        Both hold a video to a number of tokens, of which each frame may take its share: the authors' rule always, the
        file's if it says `cap_pixels_per_frame`. A user's bounds take the place of the rule's, within that share.
        """
        asked, cell = sizing.size, self._cell**2
        cap = self._settings.get("cap_pixels_per_frame")
        ruled = self._by_authors and cap is None and not asked.processor
        least: float
        most: float
        least, most = (_LEAST * cell, _MOST * cell) if ruled else self._stored_bounds
        least = asked.min_pixels or min(least, asked.max_pixels or least)
        share: float | None = None
        if ruled:
            share = _WHOLE * cell / (sizing.frames + sizing.frames % _SLOT) * _SLOT
        elif cap:
            whole = int(self._settings.get("max_video_tokens", 128_000) * cell * 0.9)
            share = whole * self.frames_per_slot // sizing.frames
        if share is None:
            return least, asked.max_pixels or most
        most = max(min(most, share), int(least * 1.05))
        return least, min(most, asked.max_pixels or most)

    @property
    def _stored_bounds(self) -> tuple[int, int]:
        """Least and most pixels of a frame in the checkpoint's file, as transformers' video processor reads it."""
        size = self._settings.get("size") or {}
        least = self._settings.get("min_pixels") or size.get("shortest_edge") or _DEFAULT_BOUNDS[0]
        most = self._settings.get("max_pixels") or size.get("longest_edge") or _DEFAULT_BOUNDS[1]
        return least, most

    def preprocess(self, frames: Tensor, sizing: Sizing, device: torch.device) -> dict[str, Tensor]:
        """Patches (t h w, 3 x frames x patch x patch) in merge order, and their grid.

        A last slot that is not full repeats its last frame.
        """
        _, height, width, _ = frames.shape
        height, width = self.size(height, width, sizing)
        x = normalise(resize(frames, height, width, self._settings), self._settings, device)  # (n, 3, height, width)
        depth, patch, merge = self.frames_per_slot, self._vision.patch_size, self._merge
        x = torch.cat([x, x[-1:].expand(-len(x) % depth, -1, -1, -1)])
        t, h, w = len(x) // depth, height // patch, width // patch
        x = x.view(t, depth, 3, h // merge, merge, patch, w // merge, merge, patch)
        x = x.permute(0, 3, 6, 4, 7, 2, 1, 5, 8)  # slot, merged row, merged column, row, column, channel, frame, y, x
        return {
            "pixel_values_videos": x.reshape(t * h * w, -1),
            "video_grid_thw": torch.tensor([[t, h, w]], device=device),
        }

    def _shape(self, pixels: dict[str, Tensor]) -> tuple[int, int, int]:
        """t, H, W of the token grid."""
        t, h, w = pixels["video_grid_thw"][0].tolist()
        return t, h // self._merge, w // self._merge

    def encode(self, model: Any, pixels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Merged features of the vision encoder."""
        out = model.get_video_features(**pixels, return_dict=True).pooler_output
        return {"features": torch.cat(list(out)).view(*self._shape(pixels), -1)}

    def last_attention(self, model: Any) -> nn.Module:
        """That of the last block, which is full within a slot."""
        return model.model.visual.blocks[-1].attn

    def key_projection(self, model: Any) -> Any:
        """Queries, keys and values come from one projection."""
        return self.last_attention(model).qkv

    def keys(self, model: Any, inputs: Tensor) -> Tensor:
        """The middle third of the joint projection."""
        return self.key_projection(model)(inputs).chunk(3, dim=-1)[1]

    def to_grid(self, model: Any, patches: Tensor, pixels: dict[str, Tensor]) -> Tensor:  # noqa: ARG002
        """Mean over each token's patches, which stand together."""
        return self._merged(patches).view(*self._shape(pixels), -1)

    def _merged(self, patches: Tensor) -> Tensor:
        """(patches, C) to (tokens, C)."""
        return patches.view(-1, self._merge**2, patches.shape[-1]).mean(1)

    # --- language ---

    def positions(self, model: Any, ids: Tensor, visual: Tensor, grid: TokenGrid) -> Tensor:
        """(4, L): running text positions, then time, row and column from the model's own `get_rope_index`."""
        three = self._time_row_column(model, ids, visual, grid)
        return torch.cat([torch.arange(len(ids), device=ids.device)[None], three])

    def _time_row_column(self, model: Any, ids: Tensor, visual: Tensor, grid: TokenGrid, **more: Any) -> Tensor:
        """(3, L): time moves one step a slot, unless `more` says otherwise."""
        t, h, w = grid.shape
        three, _ = model.model.get_rope_index(
            input_ids=ids[None],
            mm_token_type_ids=(visual >= 0).int()[None] * 2,
            video_grid_thw=torch.tensor([[t, h * self._merge, w * self._merge]], device=ids.device),
            **more,
        )
        return three[:, 0]

    def rotary_positions(self, positions: Tensor) -> Tensor:
        """Time, row and column: (3, 1, L), without the running text positions."""
        return positions[1:]
