"""Rendered clips of coloured shapes, whose events and answers are known: scored by exact words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch

from ... import pipeline
from ...errors import RequestError
from ...records import Frames, FrameStream, Source, VideoTokens
from ...synthetic.clips import FPS, Clip, render_clip
from ...synthetic.questions import EVENTS, GROUPS
from ..answering import Settings
from .base import OpenQuestions, Part, Sample

#: The first clip of seed s has the seed CLIPS_APART (s + 1): no two seeds share a clip, and none was seen in training,
#: whose own held-out clips have seeds below 100 000.
CLIPS_APART = 1_000_000


@dataclass(frozen=True)
class RenderedClips(OpenQuestions):
    """Held-out clips, with every kind of event equally often. `seeds` maps names to seeds and events."""

    count: int
    frames: int
    seed: int

    columns: ClassVar[dict[str, Part]] = {"all": None, **{name: ("kind", *kinds) for name, kinds in GROUPS.items()}}
    blind: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.frames < 12:
            raise RequestError(
                f"--frames {self.frames} is too few for an event.", "Rendered clips need 12 frames or more."
            )

    @cached_property
    def seeds(self) -> dict[str, tuple[int, str]]:
        """Seed and event (one of EVENTS) of each clip by its name, which is enough to make the clip again."""
        first = CLIPS_APART * (self.seed + 1)
        events = ((first + i, EVENTS[i % len(EVENTS)]) for i in range(self.count))
        return {f"clip {seed}: {event}": (seed, event) for seed, event in events}

    def render(self, name: str) -> Clip:
        """The clip of that name."""
        seed, event = self.seeds[name]
        return render_clip(seed, "heldout", self.frames, event)

    def load_samples(self) -> list[Sample]:
        """All questions; each clip is rendered for its own."""
        return [
            Sample(
                id=f"{name}, question {number}",
                video=name,
                path=None,
                prompt=question.text,
                options=(),
                answer=question.answer,
                groups={"kind": question.kind},
            )
            for name in self.seeds
            for number, question in enumerate(self.render(name).questions)
        ]

    def encode(
        self, sample: Sample, settings: Settings, evidence: Iterable[str], context: pipeline.Context
    ) -> VideoTokens:
        """Tokens straight from the rendered pixels."""
        pixels = torch.from_numpy(self.render(sample.video).frames)
        count, height, width, _ = pixels.shape
        source = Source(sample.video, pixels.numel(), "", count / FPS, FPS, count, width, height, "rendered")
        stream = FrameStream(source, count, [Frames(pixels, tuple(i / FPS for i in range(count)))])
        return pipeline.encode_frames(
            stream, settings.model, settings.runtime, revision=settings.revision, evidence=evidence, context=context
        )
