"""Qwen3-VL (Qwen team, 2025): Qwen2-VL with times in words, and with features of several vision layers (DeepStack)."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...errors import VideoError
from ...records import TokenGrid
from .qwen2_vl import Qwen2VL

# What Qwen3VLProcessor writes for a video, inside the pair of tokens that the chat template writes around it.
_VIDEO = "<|video_pad|>"
_SLOT = "<{seconds:.1f} seconds><|vision_start|><|video_pad|><|vision_end|>"


class Qwen3VL(Qwen2VL):
    """Two frames a slot, each slot behind its time; the size of frames depends on how many a video has.

    A token has features from the last vision layer and from K others (`deepstack_visual_indexes`). The former enter the
    LLM as embeddings, each of the latter is added to the token's hidden state behind one of the first K layers
    (DeepStack, Meng et al., 2024). All are pruned with one index. A method that merges tokens merges the former; a kept
    token keeps the deepstack features that it had.

    The pair of vision tokens around the whole video is that of transformers since 5.10; the authors' first processor
    (4.57) left it out.
    """

    name: ClassVar[str] = "qwen3_vl"
    slotwise: ClassVar[bool] = True

    # --- vision ---

    def size(self, height: int, width: int, frames: int = 1) -> tuple[int, int]:
        """The size that frames of a video are resized to: its pixels in all lie within the checkpoint's bounds.

        The rule of Qwen3VLVideoProcessor. A single frame is one slot, so it counts as a whole slot's frames.
        """
        depth, side = self.frames_per_slot, self._vision.patch_size * self._vision.spatial_merge_size
        frames = max(frames, depth)
        if min(height, width) < side:
            scale = max(side / height, side / width)
            height, width = int(height * scale), int(width * scale)
        if max(height, width) > 200 * min(height, width):
            raise VideoError(f"Frames of {width} x {height} pixels are too narrow for Qwen3-VL (200 : 1).")
        least, most = self._bounds(frames, side)
        rounded = [round(edge / side) * side for edge in (height, width)]
        pixels = round(frames / depth) * depth * rounded[0] * rounded[1]
        if pixels > most:
            scale = math.sqrt(frames * height * width / most)
            rounded = [max(side, math.floor(edge / scale / side) * side) for edge in (height, width)]
        elif pixels < least:
            scale = math.sqrt(least / (frames * height * width))
            rounded = [math.ceil(edge * scale / side) * side for edge in (height, width)]
        return rounded[0], rounded[1]

    def _bounds(self, frames: int, side: int) -> tuple[int, int]:
        """Least and most pixels of a video; the cap of a single frame holds only where the checkpoint asks for it."""
        size = self._settings["size"]
        least, most = size["shortest_edge"], size["longest_edge"]
        if self._settings.get("cap_pixels_per_frame"):
            cap = min(self._settings.get("max_video_tokens", 768) * side**2, most // frames)
            most = max(cap, int(least * 1.05)) * frames
        return least, most

    def pixels(self, frames: Tensor, device: torch.device) -> dict[str, Tensor]:
        """The same for a whole video."""
        return self.pixels_of_part(frames, len(frames), device)

    def pixels_of_part(self, frames: Tensor, total: int, device: torch.device) -> dict[str, Tensor]:
        """Patches of Qwen2-VL, at the size that the whole video's number of frames allows."""
        _, height, width, _ = frames.shape
        return self._patches(frames, self.size(height, width, total), device)

    def encoded(self, model: Any, pixels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Merged features of the last layer, and those of the others, (t, H, W, K, D)."""
        out = model.get_video_features(**pixels, return_dict=True)
        grid = self._grid(pixels)
        # A tensor for each video, or all of them in one, which transformers 5.17 gives: the same values in a row.
        deep = [torch.cat(list(features)).view(*grid, -1) for features in out.deepstack_features]
        return {"features": torch.cat(list(out.pooler_output)).view(*grid, -1), "deepstack": torch.stack(deep, dim=3)}

    def slot_seconds(self, frames: tuple[float, ...]) -> float:
        """The middle between the first and the last frame."""
        return (frames[0] + frames[-1]) / 2

    # --- language ---

    def written(self, text: str, grid: TokenGrid) -> str:
        """Every slot behind its time, between vision tokens of its own."""
        return text.replace(_VIDEO, "".join(_SLOT.format(seconds=seconds) for seconds in grid.seconds))

    def deepened(self, visual: Tensor, deepstack: Tensor) -> dict[str, Any]:
        """One tensor (M, D) for each of the first K layers."""
        return {"visual_pos_masks": visual[None], "deepstack_visual_embeds": list(deepstack.unbind(1))}
