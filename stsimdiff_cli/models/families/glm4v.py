"""GLM-4.1V (GLM-V team, 2025): native resolution, two frames a slot, its time after each, three-part positions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import ClassVar

from ...records import Sizing, TokenGrid
from .preprocess import CLIP
from .qwen3_5 import Qwen35

_VIDEO = "<|video|>"
_SLOT = "<|begin_of_image|><|image|><|end_of_image|>{}"
#: What stands after a slot, by the processor's class.
_TIMES: dict[str, Callable[[float], str]] = {
    "Glm4vProcessor": lambda seconds: f"{int(seconds)}",  # GLM-4.1V, GLM-4.5V
    "Glm46VProcessor": lambda seconds: f"{seconds:.1f} seconds",  # GLM-4.6V
}
#: Where transformers looks for the processor's class, in its order.
_FILES = (
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "tokenizer_config.json",
)


class Glm4v(Qwen35):
    """A slot's visual tokens have the id of an image's, and its time stands after them.

    Frames are sized as those of Qwen3-VL, with the checkpoint's own bounds. The authors' processors have no rule for a
    number of frames: they take two frames a second (GLM-4.1V, GLM-4.5V), or by the length of the video (GLM-4.6V).
    How times are written depends on the processor that the checkpoint names, since checkpoints of several versions
    have the same `model_type`.
    """

    name: ClassVar[str] = "glm4v"
    _channels: ClassVar[dict[str, list[float]]] = CLIP
    _processor: ClassVar[str] = "Glm4vProcessor"

    # --- vision ---

    @property
    def spread(self) -> str:
        """From the first to the last, rounded down, as the authors' processor fills up short videos."""
        return "truncated"

    def size(self, height: int, width: int, sizing: Sizing) -> tuple[int, int]:
        """That of Qwen3-VL for an even number of frames: the authors' processor repeats the last frame first."""
        return super().size(height, width, replace(sizing, frames=sizing.frames + sizing.frames % 2))

    def slot_seconds(self, frames: tuple[float, ...]) -> float:
        """The time of the first frame."""
        return frames[0]

    # --- language ---

    @cached_property
    def placeholder(self) -> int:
        """The id of an image's tokens: the prompt holds a video as a row of images."""
        return int(self.config.image_token_id)

    @cached_property
    def _time(self) -> Callable[[float], str]:
        """Writes a time, in seconds, as the checkpoint's processor does."""
        named = (self.checkpoint.json(name).get("processor_class") for name in _FILES)
        return _TIMES.get(str(next(filter(None, named), None)), _TIMES[self._processor])

    def expand_placeholder(self, text: str, grid: TokenGrid) -> str:
        """Every slot as an image, with its time after it."""
        return text.replace(_VIDEO, "".join(_SLOT.format(self._time(seconds)) for seconds in grid.seconds))
