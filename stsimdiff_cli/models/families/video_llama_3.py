"""VideoLLaMA 3 (Zhang et al., 2025): native resolution, one frame a slot, its time in words before each."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...records import Sizing, TokenGrid
from .base import Family
from .preprocess import HALF
from .qwen2_vl import Qwen2VL

_VIDEO = "<|video_pad|>"
_SLOT = "Time {seconds:.1f}s:<|video_pad|>"


class VideoLlama3(Qwen2VL):
    """One frame a slot, 2 x 2 patches a token, and an LLM that counts positions 0, 1, 2, ...

    Only the classes of transformers are used, so only checkpoints in its format can be read. The authors' processor
    drops tokens whose pixels are those of the frame before (`use_token_compression`); here all tokens enter, and what
    is dropped is left to the method.
    """

    name: ClassVar[str] = "video_llama_3"
    placeholder_per_slot: ClassVar[bool] = True
    _channels: ClassVar[dict[str, list[float]]] = HALF

    @property
    def _merge(self) -> int:
        """Stated by the processor, since images and videos may differ."""
        return int(self._settings.get("merge_size", 2))

    # --- vision ---

    @property
    def frames_per_slot(self) -> int:
        """One, in all checkpoints."""
        return 1

    @property
    def spread(self) -> str:
        """As transformers' processor chooses a number of frames."""
        return "starts"

    def _frame_bounds(self, sizing: Sizing) -> tuple[float, float]:
        """Least pixels of a frame, and its share of the most of a video, both from the checkpoint's file."""
        least, most = self._stored_bounds
        most //= sizing.frames
        asked = sizing.size
        least = asked.min_pixels or min(least, asked.max_pixels or least)
        return least, min(most, asked.max_pixels or most)

    def preprocess(self, frames: Tensor, sizing: Sizing, device: torch.device) -> dict[str, Tensor]:
        """Those of Qwen2-VL, and how many patches along a side become a token."""
        pixels = super().preprocess(frames, sizing, device)
        return {**pixels, "video_merge_sizes": torch.tensor([self._merge], device=device)}

    def last_attention(self, model: Any) -> nn.Module:
        """That of the last block, which is full within a frame."""
        return model.model.vision_model.encoder.layers[-1].self_attn

    key_projection = Family.key_projection
    keys = Family.keys

    # --- language ---

    positions = Family.positions
    rotary_positions = Family.rotary_positions

    def expand_placeholder(self, text: str, grid: TokenGrid) -> str:
        """Every frame after its time, separated by commas."""
        return text.replace(_VIDEO, ",".join(_SLOT.format(seconds=seconds) for seconds in grid.seconds))
