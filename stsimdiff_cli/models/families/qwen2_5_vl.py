"""Qwen2.5-VL (Bai et al., 2025): Qwen2-VL with window attention, and with seconds in its positions."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ...records import TokenGrid
from .qwen2_vl import Qwen2VL


class Qwen25VL(Qwen2VL):
    """Most vision layers attend within windows, the last to a whole slot; time positions follow the clock."""

    name: ClassVar[str] = "qwen2_5_vl"

    def to_grid(self, model: Any, patches: Tensor, pixels: dict[str, Tensor]) -> Tensor:
        """Mean over each token's patches, then out of window order (the encoder permutes tokens for its windows)."""
        merged = self._merged(patches)
        order = torch.as_tensor(self._window_index(model, pixels["video_grid_thw"]), device=merged.device)
        return merged[torch.argsort(order)].view(*self._shape(pixels), -1)

    def _window_index(self, model: Any, grid_thw: Tensor) -> Any:
        """(tokens,): for each token in the encoder's order, its place on the grid."""
        try:
            from transformers.vision_utils import get_vision_window_index
        except ImportError:  # transformers before this became a function
            return model.model.visual.get_window_index(grid_thw)[0]
        vision = self._vision
        return get_vision_window_index(grid_thw, self._merge, vision.window_size, vision.patch_size)[0]

    def slot_period(self, period: float) -> float | None:
        """As the authors' processor: the length of the video over the number of slots, not the time between slots."""
        return period * self.frames_per_slot if self._by_authors else None

    def seconds_per_slot(self, grid: TokenGrid) -> float:
        """The grid's period, or else (frames at a rate, and files before 0.2) the mean spacing of the slots' times."""
        if grid.period is not None:
            return grid.period
        slots = grid.shape[0]
        return (grid.seconds[-1] - grid.seconds[0]) / (slots - 1) if slots > 1 else 1.0

    def positions(self, model: Any, ids: Tensor, visual: Tensor, grid: TokenGrid) -> Tensor:
        """(4, L): running text positions, then time, row and column from the model's own `get_rope_index`.

        Times are computed again here because transformers 5.17 truncates the seconds per slot to whole ones; from 5.18
        on this changes nothing.
        """
        _, h, w = grid.shape
        spacing = torch.tensor(self.seconds_per_slot(grid), device=ids.device)
        three = self._time_row_column(model, ids, visual, grid, second_per_grid_ts=spacing[None])
        begin = int((visual >= 0).nonzero()[0])
        slot = (visual[visual >= 0] // (h * w)).float()
        three[0, visual >= 0] = three[1, begin] + (slot * (self._vision.tokens_per_second * spacing)).long()
        return torch.cat([torch.arange(len(ids), device=ids.device)[None], three])
