"""Qwen3-VL (Qwen team, 2025): Qwen2-VL with times in words, and with features of several vision layers (DeepStack)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ...errors import VideoError
from ...records import Sizing, TokenGrid
from .preprocess import HALF, fit_area
from .qwen2_vl import Qwen2VL

# What Qwen3VLProcessor writes for a video, inside the pair of tokens that the chat template writes around it.
_VIDEO = "<|video_pad|>"
_SLOT = "<{seconds:.1f} seconds><|vision_start|><|video_pad|><|vision_end|>"


class Qwen3VL(Qwen2VL):
    """Two frames a slot, each slot after its time in words; frame size depends on how many frames a video has.

    A token has features from the last vision layer and from K others (`deepstack_visual_indexes`). The former enter the
    LLM as embeddings; each of the latter is added to the token's hidden state after one of the first K layers
    (DeepStack, Meng et al., 2024). All are pruned with one index. A method that merges tokens merges the former; a kept
    token keeps the deepstack features that it had.

    The pair of vision tokens around the whole video is that of transformers since 5.10; the authors' first processor
    (4.57) left it out.
    """

    name: ClassVar[str] = "qwen3_vl"
    placeholder_per_slot: ClassVar[bool] = True
    _channels: ClassVar[dict[str, list[float]]] = HALF

    # --- vision ---

    @property
    def spread(self) -> str:
        """As its processor chooses frames."""
        return "rounded"

    def size(self, height: int, width: int, sizing: Sizing) -> tuple[int, int]:
        """The size that frames of a video are resized to: all its pixels together lie within the checkpoint's bounds.

        The rule of Qwen3VLVideoProcessor; see `fit_area`. A single frame is one slot, so it counts as a whole slot's
        frames. VideoError for frames more than 200 times as long as wide.
        """
        depth, side = self.frames_per_slot, self._cell
        frames = max(sizing.frames, depth)
        if min(height, width) < side:
            scale = max(side / height, side / width)
            height, width = int(height * scale), int(width * scale)
        if max(height, width) > 200 * min(height, width):
            raise VideoError(
                f"Frames of {width} x {height} pixels are too narrow for this model (200 : 1).",
                "Crop or pad the video.",
            )
        return fit_area((height, width), side, self._video_bounds(sizing, frames), frames, depth)

    def _video_bounds(self, sizing: Sizing, frames: int) -> tuple[int, int]:
        """Least and most pixels of a video; a single frame is capped only where the checkpoint or the user asks for it.

        A user's bounds are those of a frame, and the checkpoint's most pixels of a video hold nevertheless.
        """
        size = self._settings["size"]
        least, most = size["shortest_edge"], size["longest_edge"]
        if self._settings.get("cap_pixels_per_frame"):
            cap = min(self._settings.get("max_video_tokens", 768) * self._cell**2, most // frames)
            most = max(cap, int(least * 1.05)) * frames
        asked = sizing.size
        most = min(most, (asked.max_pixels or most) * frames)
        return (asked.min_pixels * frames if asked.min_pixels else min(least, most)), most

    def encode(self, model: Any, pixels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Merged features of the last layer, and those of the others as `deepstack` (t, H, W, K, D)."""
        out = model.get_video_features(**pixels, return_dict=True)
        shape = self._shape(pixels)
        # A tensor for each video, or all of them in one, which transformers 5.17 gives: the same values in a row.
        deep = [torch.cat(list(features)).view(*shape, -1) for features in out.deepstack_features]
        return {"features": torch.cat(list(out.pooler_output)).view(*shape, -1), "deepstack": torch.stack(deep, dim=3)}

    def slot_seconds(self, frames: tuple[float, ...]) -> float:
        """The middle between the first and the last frame."""
        return (frames[0] + frames[-1]) / 2

    # --- language ---

    def expand_placeholder(self, text: str, grid: TokenGrid) -> str:
        """Every slot after its time, between vision tokens of its own."""
        return text.replace(_VIDEO, "".join(_SLOT.format(seconds=seconds) for seconds in grid.seconds))

    def deepstack_kwargs(self, visual: Tensor, deepstack: Tensor) -> dict[str, Any]:
        """One tensor (M, D) for each of the first K layers."""
        return {"visual_pos_masks": visual[None], "deepstack_visual_embeds": list(deepstack.unbind(1))}
