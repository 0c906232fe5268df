"""Chooses which frames of a video to look at."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..errors import RequestError
from .scanning import Scan

#: Frames of a video, if nobody names a number.
DEFAULT_FRAMES = 32


@dataclass(frozen=True)
class Sampling:
    """Which frames of a video to read, and with which decoder, as a user says it."""

    frames: int = DEFAULT_FRAMES  # uniform over the clip, unless there is a rate
    fps: float | None = None  # frames per second of video
    start: float | None = None  # seconds
    end: float | None = None  # seconds
    decoder: str = "auto"  # auto, pyav, decord or torchcodec


def choose_frames(scan: Scan, sampling: Sampling) -> tuple[int, ...]:
    """Strictly increasing indices into `scan.seconds`.

    By count: `frames` frames, uniform over the frames (not over the time) of the clip, the first and the last
    included: `numpy.linspace(first, last, frames)` without its fractions. That is how LLaVA-Video and its relatives
    sample (with rounding instead of truncation, Qwen2-VL too), and where the frame rate is constant it is
    uniform in time too. A clip of varying rate gives more frames where it has more. A clip with fewer frames gives
    all that it has.

    By rate: with `fps`, the frame on the screen at `start`, `start + 1/fps`, ... to the end; `frames` is then not used.
    A rate higher than the clip's gives every frame once.

    `start` and `end` are seconds from the first frame; the part begins with the frame on the screen at `start` and
    ends with the one on the screen at `end`. An `end` after the end of the clip means the end of the clip, so that
    one command suits clips of all lengths. RequestError for a range with nothing in it and for numbers below zero.
    """
    frames, fps = sampling.frames, sampling.fps
    first_time, last_time = _part(scan, sampling.start, sampling.end)
    if fps is not None:
        if not (math.isfinite(fps) and fps > 0):
            raise RequestError(f"A rate of {fps:g} frames per second is not possible.", "Give a rate above 0, like 1.")
        return tuple(int(i) for i in _at_rate(scan, fps, first_time, last_time))
    if frames < 1:
        raise RequestError(f"{frames} frames cannot be sampled.", "Give a number of at least 1, like 32.")
    first, last = _on_screen(scan, np.array([first_time, last_time]))
    count = min(frames, last - first + 1)
    return tuple(int(i) for i in np.linspace(first, last, count, dtype=np.int64))


def _part(scan: Scan, start: float | None, end: float | None) -> tuple[float, float]:
    """The range in seconds, checked; its end is infinite if none is given."""
    length = f"The clip is {scan.duration:.2f} s long."
    for name, value in (("start", start), ("end", end)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise RequestError(f"The {name} of {value:g} s is not a time in the clip.", f"{length} Times begin at 0.")
    begin = 0.0 if start is None else start
    if begin >= _shown_until(scan):
        raise RequestError(f"The start of {begin:g} s is after the end of the clip.", length)
    if end is not None and end <= begin:
        raise RequestError(f"The end of {end:g} s is not after the start of {begin:g} s.", length)
    return begin, math.inf if end is None else end


def _shown_from(scan: Scan) -> np.ndarray:
    """When each frame appears: (n,) seconds, early by the rounding of times in the file.

    Times in a file are whole ticks, in Matroska milliseconds: a frame meant for 0.0667 s may stand at 0.067 s.
    """
    return scan.seconds - scan.tolerance


def _shown_until(scan: Scan) -> float:
    """When the last frame goes: seconds, early by the same rounding; a frame of no duration stays for an instant."""
    return max(scan.duration - scan.tolerance, float(scan.seconds[-1]) + scan.tolerance)


def _on_screen(scan: Scan, times: np.ndarray) -> np.ndarray:
    """Index of the frame shown at each time: the last one at or before it, else the first."""
    return np.maximum(np.searchsorted(_shown_from(scan), times, side="right") - 1, 0)


def _at_rate(scan: Scan, fps: float, start: float, end: float) -> np.ndarray:
    """Indices of the frames that are on the screen at one of the times start, start + 1/fps, ... end.

    Asked from the frames' side, so that the work is bounded by the clip and not by the rate: frame i, on the screen
    in [from_i, to_i), is chosen if the first of the times that is not before from_i is before to_i.
    """
    begins = _shown_from(scan)  # (n,)
    ends = np.append(begins[1:], _shown_until(scan))
    begins[0] = min(begins[0], start)
    step = np.maximum(np.ceil((begins - start) * fps), 0)
    time = start + step / fps
    return np.flatnonzero((time < ends) & (time <= end + scan.tolerance))
