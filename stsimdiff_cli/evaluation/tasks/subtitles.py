"""Subtitles of Video-MME as lmms-eval's task `videomme_w_subtitle` puts them into a prompt.

The text is that of the cues during which one of 32 evenly spaced frames is shown, whatever number of frames the model
sees (with the key `gemini_api_flag` lmms-eval would take every cue; that is not done here). Three things differ:

* Cues come in the order of the file. lmms-eval keeps their numbers in a Python set, whose order is another one as soon
  as numbers are large.
* A text within any <font> tag counts, and without one the text itself. lmms-eval takes what is within
  <font color="white" size=".72c">, as the published files have it, and drops the rest.
* A time that cannot be read leaves out its cue; lmms-eval stops.

Number and rate of the frames are read from the video's header, as lmms-eval does, and by a scan where the header does
not count. Only videos that are there get subtitles, since only their questions can be asked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...errors import StsimdiffError
from ...synthetic.benchmark_prompts import NO_SUBTITLES

#: What stands in the prompt of a video without subtitles.
NONE = NO_SUBTITLES
FRAMES = 32

_FONT = re.compile(r"<font[^>]*>(.*?)</font>")
_TAG = re.compile(r"<[^>]*>")
_TIMES = re.compile(r"(\d+):(\d+):(\d+),(\d+) --> (\d+):(\d+):(\d+),(\d+)")


class Cue(NamedTuple):
    """A text and when it is shown, in seconds."""

    start: float
    end: float
    text: str


class Subtitles:
    """The subtitles of a benchmark's videos."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = folders
        self._said: dict[str, str] = {}

    def during(self, video: str, path: Path) -> str:
        """Lines of the video with that id and file, or NONE."""
        if video not in self._said:
            files = [folder / f"{video}.srt" for folder in self.folders]
            file = next((file for file in files if file.is_file()), None)
            self._said[video] = NONE if file is None else self._lines(file, path)
        return self._said[video]

    def _lines(self, file: Path, path: Path) -> str:
        try:
            frames, fps = _frames(path)
        except StsimdiffError:  # encoding the video says why
            return NONE
        return "\n".join(shown(read_cues(file), frames, fps))


def read_cues(file: Path) -> list[Cue]:
    """The cues of an .srt file, in its order; of two with the same times the later text at the earlier place."""
    cues: dict[tuple[float, float], Cue] = {}
    for block in file.read_text(encoding="utf-8", errors="replace").split("\n\n"):
        lines = block.strip("\n").split("\n")
        times = _TIMES.match(lines[1]) if len(lines) > 2 else None
        if times:
            numbers = [int(number) for number in times.groups()]
            start, end = _seconds(*numbers[:4]), _seconds(*numbers[4:])
            cues[start, end] = Cue(start, end, _plain(" ".join(lines[2:])))
    return list(cues.values())


def shown(cues: Sequence[Cue], frames: int, fps: float, sampled: int = FRAMES) -> list[str]:
    """Texts of the cues that cover one of `sampled` evenly spaced frames of a video with `frames` frames."""
    at = np.linspace(0, frames - 1, sampled, dtype=int)
    spans = ((int(cue.start * fps), int(cue.end * fps), cue.text) for cue in cues)
    return [text for first, last, text in spans if ((first <= at) & (at < last)).any()]


def _seconds(hours: int, minutes: int, seconds: int, thousandths: int) -> float:
    return hours * 3600 + minutes * 60 + seconds + thousandths / 1000


def _plain(text: str) -> str:
    tagged = _FONT.search(text)
    return tagged[1] if tagged else _TAG.sub("", text).strip()


def _frames(path: Path) -> tuple[int, float]:
    """Number of frames and frames per second."""
    from ...video import scan
    from ...video.opening import open_video

    container, stream = open_video(path)
    with container:
        counted, rate = stream.frames, stream.average_rate
    if counted and rate:
        return counted, float(rate)
    facts = scan(path)
    return facts.frames, float(Fraction(facts.fps).limit_denominator(1001))
