"""SmolVLM2 (Marafioti et al., 2025): small models that read every frame as an image with its time before it."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...records import Coverage, Sizing, TokenGrid
from .base import Family
from .preprocess import HALF, normalise, resize, square, video_settings

# What SmolVLMProcessor writes about a video, whatever the chat template says.
_VIDEO = "<video>"
_INTRODUCTION = "You are provided the following series of {count} frames from a {duration} [H:MM:SS] video.\n"
_FRAME = (
    "\nFrame from {minutes:02d}:{seconds:02d}:<fake_token_around_image><global-img><image><fake_token_around_image>"
)
_END = "\n\n"
_LARGEST = 4096  # no edge is made longer than this before frames become squares


class SmolVLM(Family):
    """One frame a slot, squeezed into a square; a token is a square of `scale_factor` x `scale_factor` SigLIP patches.

    The words around and between the frames are not on the grid: they belong to the prompt and do not count in N. They
    cannot be a Layout, because the tokenizer may merge them with the words of the chat template on both sides; the
    number of frames, the times and the duration that they name are all in the grid's record.
    """

    name: ClassVar[str] = "smolvlm"
    # The checkpoints' templates do not know videos; as a text, the placeholder ends up where transformers' processor
    # puts it.
    video_part: ClassVar[dict[str, str]] = {"type": "text", "text": _VIDEO}
    placeholder_per_slot: ClassVar[bool] = True

    @cached_property
    def _settings(self) -> dict[str, Any]:
        return video_settings(self.checkpoint, HALF)

    # --- vision ---

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The size of frames before they become squares: the longer edge is given, the other one made even.

        Where a checkpoint has one size for images and another for videos, transformers takes the one for images.
        """
        size = self._settings.get("size") or self._settings["video_sampling"]["video_size"]
        if "longest_edge" not in size:
            return size["height"], size["width"]
        edge, aspect = min(size["longest_edge"], _LARGEST), width / height
        if width >= height:
            return _even(int(edge / aspect)), edge
        return edge, _even(int(edge * aspect))

    def preprocess(self, frames: Tensor, sizing: Sizing, device: torch.device) -> dict[str, Tensor]:  # noqa: ARG002
        """(1, n, 3, side, side): resized twice, as transformers does it, whatever the aspect ratio."""
        x = resize(frames, *self.size(*frames.shape[1:3]), self._settings)
        side = self._settings["max_image_size"]["longest_edge"]
        x = resize(x.permute(0, 2, 3, 1), side, side, self._settings)
        return {"pixel_values": normalise(x, self._settings, device)[None]}

    def encode(self, model: Any, pixels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Pixel-shuffled and projected features."""
        values = pixels["pixel_values"][0].to(model.dtype)
        out = model.model.connector(model.model.vision_model(values, return_dict=True).last_hidden_state)
        return {"features": square(out)}

    def coverage_of(self, width: int, height: int) -> Coverage:  # noqa: ARG002
        """All whole patches; SigLIP's last pixels are in no patch (27 patches of 14 on 384 pixels)."""
        vision = self.config.vision_config
        part = vision.image_size // vision.patch_size * vision.patch_size / vision.image_size
        return Coverage(right=part, bottom=part)

    def last_attention(self, model: Any) -> nn.Module:
        """That of the last layer."""
        return model.model.vision_model.encoder.layers[-1].self_attn

    def to_grid(self, model: Any, patches: Tensor, pixels: dict[str, Tensor]) -> Tensor:  # noqa: ARG002
        """Mean over the square of patches that pixel shuffling puts into one token."""
        x = square(patches.view(pixels["pixel_values"].shape[1], -1, patches.shape[-1])).permute(0, 3, 1, 2)
        return F.avg_pool2d(x, self.config.scale_factor).permute(0, 2, 3, 1)

    # --- language ---

    @cached_property
    def placeholder(self) -> int:
        """Frames are images to the LLM."""
        return int(self.config.image_token_id)

    def expand_placeholder(self, text: str, grid: TokenGrid) -> str:
        """The number of frames and the video's duration, then every frame after its time."""
        duration = timedelta(seconds=int(grid.source.seconds or grid.seconds[-1]))
        times = [divmod(int(max(second, 0)), 60) for second in grid.seconds]
        frames = [_FRAME.format(minutes=minutes, seconds=seconds) for minutes, seconds in times]
        introduction = _INTRODUCTION.format(count=in_words(len(frames)), duration=duration)
        return text.replace(_VIDEO, introduction + "".join(frames) + _END)


def _even(edge: int) -> int:
    """`edge`, or one more if it is odd; at least 1."""
    return max(edge + edge % 2, 1)


_UNITS = {
    0: "zero", 1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine",
    10: "ten", 11: "eleven", 12: "twelve", 13: "thirteen", 14: "fourteen", 15: "fifteen", 16: "sixteen",
    17: "seventeen", 18: "eighteen", 19: "nineteen",
}  # fmt: skip
_TENS = {2: "twenty", 3: "thirty", 4: "forty", 5: "fifty", 6: "sixty", 7: "seventy", 8: "eighty", 9: "ninety"}


def in_words(number: int) -> str:
    """A number from 0 to 999999 in British English, as SmolVLM2's processor counts frames: one hundred and one."""
    if number < 20:
        return _UNITS[number]
    if number < 100:
        tens, units = divmod(number, 10)
        return _TENS[tens] + (f"-{_UNITS[units]}" if units else "")
    size, name = (100, "hundred") if number < 1000 else (1000, "thousand")
    most, rest = divmod(number, size)
    words = f"{in_words(most)} {name}"
    if not rest:
        return words
    return f"{words}{' and ' if rest < 100 else ', '}{in_words(rest)}"
