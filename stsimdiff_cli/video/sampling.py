"""Chooses which frames of a video to read."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..errors import RequestError
from .scanning import Scan

#: The default number of frames per video.
DEFAULT_FRAMES = 32


@dataclass(frozen=True)
class Sampling:
    """Which frames of a video to read, and how, as a user specifies it."""

    frames: int = DEFAULT_FRAMES  # uniformly over the clip; not used if there is a rate
    fps: float | None = None  # frames per second of video
    start: float | None = None  # seconds from the first frame
    end: float | None = None  # seconds from the first frame
    decoder: str = "auto"  # auto, pyav, decord or torchcodec
    workers: int | None = None  # that decode at the same time; one for each core but one if None


def choose_frames(scan: Scan, sampling: Sampling) -> tuple[int, ...]:
    """The chosen frames as strictly increasing indices into `scan.seconds`.

    By count: `frames` frames, uniform over the frames (not over the time) of the clip, including the first and the
    last: `numpy.linspace(first, last, frames)`, truncated. LLaVA-Video and related models sample in this way, and so
    does Qwen2-VL, with rounding instead of truncation. At a constant frame rate it is uniform in time too; at a
    variable rate there are more samples where there are more frames. A shorter clip gives all its frames.

    By rate: with `fps`, the frame shown at `start`, `start + 1/fps`, ... to the end; `frames` is then not used. A rate
    above that of the clip gives every frame once.

    `start` and `end` are seconds from the first frame: the range begins with the frame shown at `start` and ends with
    the frame shown at `end`. An `end` after the clip means its end, so that one command suits clips of all lengths.
    Raises RequestError for an empty range and for invalid numbers.
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
    """The range in seconds, checked; infinite at the end if none is given."""
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
