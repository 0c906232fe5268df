"""What tasks about rendered clips share: clips are made when they are needed, and tokens straight from their pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np
import torch

from ... import pipeline
from ...errors import RequestError
from ...records import Frames, FrameStream, Source, VideoTokens
from ...synthetic.clips import Clip, Outline
from ...synthetic.questions import NEVER, NOTHING, Fact, Question
from ..answering import Settings
from ..controls import frame_order
from ..plan import Cell
from .base import OpenQuestions, Sample

#: The first clip of seed s has the seed CLIPS_APART (s + 1): no two seeds share a clip, and none was seen in training,
#: whose own held-out clips have seeds below 100 000.
CLIPS_APART = 1_000_000
#: Frames of the shortest clip with an event that can be asked about.
LEAST = 12


class RenderedTask(OpenQuestions, ABC):
    """Questions about clips that can be made again from their name."""

    @abstractmethod
    def render(self, name: str) -> Clip:
        """The clip of that name."""

    def encode(
        self, sample: Sample, settings: Settings, evidence: Iterable[str], context: pipeline.Context
    ) -> VideoTokens:
        """Tokens straight from the rendered pixels."""
        clip = self.render(sample.video)
        return encode_pictures(sample.video, clip, range(len(clip.frames)), settings, evidence, context)

    def encode_control(
        self, control: Cell, sample: Sample, settings: Settings, context: pipeline.Context
    ) -> VideoTokens:
        """Tokens of the frames that a control shows, at the times of the clip.

        Clips of one source are shuffled alike.
        """
        clip = self.render(sample.video)
        order = frame_order(control, len(clip.frames), sample.cluster)
        return encode_pictures(sample.video, clip, order, settings, (), context)


def first_seed(seed: int) -> int:
    """The seed of the first clip of a bench of that seed."""
    return CLIPS_APART * (seed + 1)


def check_frames(frames: int, least: int, what: str) -> None:
    """RequestError if clips are too short for what happens in them."""
    if frames < least:
        raise RequestError(f"--frames {frames} is too few for {what}.", f"Rendered clips need {least} frames or more.")


def encode_pictures(
    name: str,
    clip: Clip,
    order: Sequence[int],
    settings: Settings,
    evidence: Iterable[str],
    context: pipeline.Context,
) -> VideoTokens:
    """Tokens of some frames of a clip, in an order of their own but at the times of the first of the clip."""
    pixels = torch.from_numpy(clip.frames[list(order)])
    count, height, width, _ = pixels.shape
    source = Source(name, pixels.numel(), "", count / clip.fps, clip.fps, count, width, height, "rendered")
    chunks = [Frames(pixels, tuple(i / clip.fps for i in range(count)))]
    stream = FrameStream(source, count, chunks, size=settings.size)
    return pipeline.encode_frames(
        stream, settings.model, settings.runtime, revision=settings.revision, evidence=evidence, context=context
    )


def pick_questions(seed: int, outline: Outline) -> list[tuple[Fact, Question]]:
    """The questions about a clip, of those with the answer "nothing" and of those with "never" one at random.

    The choice is the same for twins, which have the same facts.
    """
    asked = list(zip(outline.facts, outline.questions, strict=True))
    rng = np.random.default_rng([seed, len(asked)])
    dropped: set[int] = set()
    for answer in (NOTHING, NEVER):
        same = [i for i, (fact, _) in enumerate(asked) if fact.answer == answer]
        if same:
            dropped |= set(same) - {same[int(rng.integers(len(same)))]}
    return [each for i, each in enumerate(asked) if i not in dropped]
