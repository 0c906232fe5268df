"""Chooses which frames of a video to read."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from ..errors import RequestError
from ..records import FrameSize
from .scanning import Scan

#: The default number of frames per video.
DEFAULT_FRAMES = 32


def _truncated(first: int, last: int, count: int) -> np.ndarray:
    return np.linspace(first, last, count, dtype=np.int64)


def _rounded(first: int, last: int, count: int) -> np.ndarray:
    return np.round(np.linspace(first, last, count))


def _rounded_float32(first: int, last: int, count: int) -> np.ndarray:
    return torch.linspace(first, last, count, dtype=torch.float32).round().numpy()


def _middles(first: int, last: int, count: int) -> np.ndarray:
    part = (last - first) / count
    return np.floor(first + part / 2 + np.round(part * np.arange(count)))


def _starts(first: int, last: int, count: int) -> np.ndarray:
    frames = last - first + 1
    return first + torch.arange(0, frames, frames / count, dtype=torch.float32)[:count].floor().numpy()


#: How `count` frames are spread over those from `first` to `last`, as the authors of models do it. Ties of the rounding
#: go to even numbers, and long videos differ by a frame where a model's code computes in float32.
SPREADS: dict[str, Callable[[int, int, int], np.ndarray]] = {
    "truncated": _truncated,  # LLaVA: evenly from the first to the last, rounded down
    "rounded": _rounded,  # VILA, Qwen3-VL: rounded to the nearest
    "rounded-float32": _rounded_float32,  # Qwen2-VL, Qwen2.5-VL
    "middles": _middles,  # InternVL: the middles of `count` equal parts
    "starts": _starts,  # VideoLLaMA 3: the first frames of `count` equal parts, in float32
}


class NoSuchPartError(RequestError):
    """A part of a video was asked for that begins after its end."""


@dataclass(frozen=True)
class Sampling:
    """Which frames of a video to read, and how, as a user specifies it.

    RequestError if both a number of frames and a rate are given.
    """

    frames: int | None = None  # uniformly over the clip: 32 if there is no rate
    fps: float | None = None  # frames per second of video, in the place of a number
    start: float | None = None  # seconds from the first frame
    end: float | None = None  # seconds from the first frame
    decoder: str = "auto"  # auto, pyav, decord or torchcodec
    workers: int | None = None  # that decode at the same time; one for each core but one if None
    size: FrameSize = FrameSize()  # how large they are when they are encoded
    spread: str | None = None  # one of SPREADS; None: as the model's authors do it
    image_fps: float | None = None  # images a second, where the video is a folder or a list of images; 1 if None

    def __post_init__(self) -> None:
        if self.frames is not None and self.fps is not None:
            raise RequestError("frames and fps cannot be used together.", "Give one of them.")
        if self.fps is None and self.frames is None:
            object.__setattr__(self, "frames", DEFAULT_FRAMES)

    @property
    def identity(self) -> dict[str, Any]:
        """What decides which frames are encoded, and at what size, as JSON values.

        Without `workers`, which decides nothing, and without what is not set among entries that 0.1 did not have. As
        in 0.1 there is a number of frames next to a rate, too.
        """
        names = ("workers", "size", "spread", "image_fps")
        values = {name: value for name, value in asdict(self).items() if name not in names}
        spread = {} if self.spread in (None, "truncated") else {"spread": self.spread}
        image_fps = {} if self.image_fps is None else {"image_fps": self.image_fps}
        return values | {"frames": self.frames or DEFAULT_FRAMES} | self.size.stated | spread | image_fps


def parse_frame_size(min_pixels: int | None, max_pixels: str | None) -> FrameSize:
    """What --min-pixels and --max-pixels say: numbers, or `processor`. RequestError for what makes no sense."""
    if max_pixels is None:
        return FrameSize(min_pixels)
    if max_pixels.strip() == "processor":
        if min_pixels is not None:
            raise RequestError(
                "--max-pixels processor takes both bounds from the checkpoint's file.", "Leave out --min-pixels."
            )
        return FrameSize(processor=True)
    if not max_pixels.strip().isdecimal() or not 0 < int(max_pixels) < 1 << 32:
        raise RequestError(
            f"--max-pixels {max_pixels} is not a number of pixels.", "Give e.g. 200704 (256 tokens of Qwen2.5-VL)."
        )
    return FrameSize(min_pixels, int(max_pixels))


def choose_frames(scan: Scan, sampling: Sampling) -> tuple[int, ...]:
    """The chosen frames as strictly increasing indices into `scan.seconds`.

    By count: `frames` frames, uniform over the frames (not over the time) of the clip, in the way that
    `sampling.spread` names. At a constant frame rate it is uniform in time too; at a variable rate there are more
    samples where there are more frames. A shorter clip gives all its frames.

    By rate: with `fps`, the frame shown at `start`, `start + 1/fps`, ... to the end. A rate above that of the clip
    gives every frame once.

    `start` and `end` are seconds from the first frame: the range begins with the frame shown at `start` and ends with
    the frame shown at `end`. An `end` after the clip means its end, so that one command suits clips of all lengths.
    Raises RequestError for an empty range and for invalid numbers.
    """
    frames, fps = sampling.frames or 0, sampling.fps
    _check_size(sampling.size)
    first_time, last_time = _part(scan, sampling.start, sampling.end)
    if fps is not None:
        if not (math.isfinite(fps) and fps > 0):
            raise RequestError(f"A rate of {fps:g} frames per second is not possible.", "Give a rate above 0, like 1.")
        return tuple(int(i) for i in _at_rate(scan, fps, first_time, last_time))
    if frames < 1:
        raise RequestError(f"{frames} frames cannot be sampled.", "Give a number of at least 1, like 32.")
    first, last = _on_screen(scan, np.array([first_time, last_time]))
    if frames > last - first:
        return tuple(range(first, last + 1))
    return tuple(int(i) for i in SPREADS[sampling.spread or "truncated"](first, last, frames))


def seconds_per_frame(scan: Scan, sampling: Sampling, count: int) -> float | None:
    """Seconds of video for each of `count` chosen frames that are spread evenly over it; None for those at a rate.

    As the processors of Qwen2.5-VL have it: the length of the range, in frames at the average rate, over `count`.
    """
    if sampling.fps is not None or not scan.fps:
        return None
    first, last = _on_screen(scan, np.array(_part(scan, sampling.start, sampling.end)))
    return float((last - first + 1) / scan.fps / count)


def _check_size(size: FrameSize) -> None:
    least, most = size.min_pixels, size.max_pixels
    for pixels in (least, most):
        if pixels is not None and pixels < 1:
            raise RequestError(f"A frame cannot have {pixels} pixels.", "Give a number of at least 1, like 200704.")
    if least is not None and most is not None and least > most:
        raise RequestError(f"A frame cannot have {least} pixels or more, and {most} or fewer.", "Exchange them.")


def _part(scan: Scan, start: float | None, end: float | None) -> tuple[float, float]:
    """The range in seconds, checked; infinite at the end if none is given."""
    length = f"The clip is {scan.duration:.2f} s long."
    for name, value in (("start", start), ("end", end)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise RequestError(f"The {name} of {value:g} s is not a time in the clip.", f"{length} Times begin at 0.")
    begin = 0.0 if start is None else start
    if begin >= _shown_until(scan):
        raise NoSuchPartError(f"The start of {begin:g} s is after the end of the clip.", length)
    if end is not None and end <= begin:
        raise RequestError(f"The end of {end:g} s is not after the start of {begin:g} s.", length)
    return begin, math.inf if end is None else end


def _shown_from(scan: Scan) -> np.ndarray:
    """When each frame appears, (n,) seconds, earlier by the rounding error of times in the file.

    Times in a file are whole ticks, in Matroska milliseconds: a frame meant for 0.0667 s may be stored at 0.067 s.
    """
    return scan.seconds - scan.tolerance


def _shown_until(scan: Scan) -> float:
    """When the last frame ends, in seconds, earlier by the same error; a frame without duration lasts an instant."""
    return max(scan.duration - scan.tolerance, float(scan.seconds[-1]) + scan.tolerance)


def _on_screen(scan: Scan, times: np.ndarray) -> np.ndarray:
    """Index of the frame shown at each time: the last one at or before it, or the first frame."""
    return np.maximum(np.searchsorted(_shown_from(scan), times, side="right") - 1, 0)


def _at_rate(scan: Scan, fps: float, start: float, end: float) -> np.ndarray:
    """Indices of the frames that are shown at one of the times start, start + 1/fps, ... end.

    Computed per frame, so that the work depends on the length of the clip and not on the rate: frame i, shown during
    [from_i, to_i), is chosen if the first of the times at or after from_i is before to_i.
    """
    begins = _shown_from(scan)  # (n,)
    ends = np.append(begins[1:], _shown_until(scan))
    begins[0] = min(begins[0], start)
    step = np.maximum(np.ceil((begins - start) * fps), 0)
    time = start + step / fps
    return np.flatnonzero((time < ends) & (time <= end + scan.tolerance))
