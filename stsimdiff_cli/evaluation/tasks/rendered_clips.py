"""Rendered clips whose camera stands still (rung `still`), with known events and answers: scored by exact words."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from ...synthetic.clips import Clip, make_clip, outline_clip
from ...synthetic.questions import GROUPS
from ...synthetic.script import EVENTS
from ..controls import NO_VIDEO
from ..plan import Cell
from .base import Part, Sample
from .rendered import LEAST, RenderedTask, check_frames, first_seed, pick_questions


@dataclass(frozen=True)
class RenderedClips(RenderedTask):
    """Held-out clips, with every kind of event equally often. `seeds` maps names to seeds and events."""

    count: int
    frames: int
    seed: int

    columns: ClassVar[dict[str, Part]] = {"all": {}, **{name: {"kind": kinds} for name, kinds in GROUPS.items()}}
    controls: ClassVar[tuple[Cell, ...]] = (NO_VIDEO,)

    def __post_init__(self) -> None:
        check_frames(self.frames, LEAST, "an event")

    @cached_property
    def seeds(self) -> dict[str, tuple[int, str]]:
        """Seed and event (one of EVENTS) of each clip by its name, which is enough to make the clip again."""
        first = first_seed(self.seed)
        events = ((first + i, EVENTS[i % len(EVENTS)]) for i in range(self.count))
        return {f"clip {seed}: {event}": (seed, event) for seed, event in events}

    def render(self, name: str) -> Clip:
        """The clip of that name."""
        seed, event = self.seeds[name]
        return make_clip(seed, "still", "heldout", self.frames, event)

    def load_samples(self) -> list[Sample]:
        """All questions."""
        samples = []
        for name, (seed, event) in self.seeds.items():
            outline = outline_clip(seed, "still", "heldout", self.frames, event)
            for number, (_, question) in enumerate(pick_questions(seed, outline)):
                groups = {"kind": question.kind}
                samples.append(
                    Sample(f"{name}, question {number}", name, None, question.text, (), question.answer, groups)
                )
        return samples
