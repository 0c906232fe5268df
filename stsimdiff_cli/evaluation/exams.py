"""Videos with questions: rendered clips whose answers are known, or anybody's videos, whose answers are not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

from .. import pipeline, video
from ..errors import RequestError
from ..records import Frames, FrameStream, Source, VideoTokens
from ..synthetic.clips import FPS, render_clip
from ..synthetic.questions import EVENTS
from ..video import Sampling

#: Clips of seed s begin here times s + 1: no clip is shared by two seeds, and none was looked at in training, whose
#: own held-out clips have seeds below 100 000.
CLIPS_APART = 1_000_000


class Item(NamedTuple):
    """A question, its kind, and the right answer where it is known."""

    kind: str
    text: str
    answer: str | None


class Exam(Protocol):
    """A video with questions."""

    @property
    def name(self) -> str:
        """Unique among the exams of a bench."""

    def open(self, model: str, **options: Any) -> tuple[VideoTokens, tuple[Item, ...]]:
        """Encode the video; `options` go to the encoder (runtime, evidence, context)."""


@dataclass(frozen=True)
class RenderedClip:
    """A held-out clip of coloured shapes, straight from its pixels."""

    seed: int
    frames: int
    event: str  # one of EVENTS

    @property
    def name(self) -> str:
        """Enough to make the clip again."""
        return f"clip {self.seed}: {self.event}"

    def open(self, model: str, **options: Any) -> tuple[VideoTokens, tuple[Item, ...]]:
        """Render and encode."""
        clip = render_clip(self.seed, "heldout", self.frames, self.event)
        pixels = torch.from_numpy(clip.frames)
        count, height, width, _ = pixels.shape
        source = Source(self.name, pixels.numel(), "", count / FPS, FPS, count, width, height, "rendered")
        seconds = tuple(i / FPS for i in range(count))
        stream = FrameStream(source, count, [Frames(pixels, seconds)])
        tokens = pipeline.encode_frames(stream, model, **options)
        return tokens, tuple(Item(q.kind, q.text, q.answer) for q in clip.questions)


@dataclass(frozen=True)
class VideoFile:
    """A video file with questions to which nobody knows the answers."""

    path: Path
    frames: int
    questions: tuple[str, ...]

    @property
    def name(self) -> str:
        """The path as given."""
        return str(self.path)

    def open(self, model: str, **options: Any) -> tuple[VideoTokens, tuple[Item, ...]]:
        """Decode and encode."""
        tokens = pipeline.encode_video(self.path, model, Sampling(frames=self.frames), **options)
        return tokens, tuple(Item("open", question, None) for question in self.questions)


def rendered_clips(count: int, frames: int, seed: int) -> list[Exam]:
    """`count` clips, with every kind of event equally often."""
    if frames < 12:
        raise RequestError(f"--frames {frames} is too few for an event.", "Rendered clips need 12 frames or more.")
    first = CLIPS_APART * (seed + 1)
    return [RenderedClip(first + i, frames, EVENTS[i % len(EVENTS)]) for i in range(count)]


def video_files(paths: Iterable[Path], frames: int, questions: Iterable[str]) -> list[Exam]:
    """Each video with all questions; VideoError at once for one that cannot be read."""
    asked = tuple(questions) or (pipeline.GENERAL_PROMPT,)
    exams: list[Exam] = []
    for path in paths:
        video.scan(path)
        exams.append(VideoFile(path, frames, asked))
    return exams
