"""Rendered clips of coloured shapes, whose events and answers are known: scored by exact words."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from ...synthetic.clips import Clip, render_clip
from ...synthetic.questions import EVENTS, GROUPS
from ..controls import NO_VIDEO
from ..plan import Cell
from .base import Part, Sample
from .rendered import RenderedTask, check_frames, first_seed


@dataclass(frozen=True)
class RenderedClips(RenderedTask):
    """Held-out clips, with every kind of event equally often. `seeds` maps names to seeds and events."""

    count: int
    frames: int
    seed: int

    columns: ClassVar[dict[str, Part]] = {"all": {}, **{name: {"kind": kinds} for name, kinds in GROUPS.items()}}
    controls: ClassVar[tuple[Cell, ...]] = (NO_VIDEO,)

    def __post_init__(self) -> None:
        check_frames(self.frames, 12, "an event")

    @cached_property
    def seeds(self) -> dict[str, tuple[int, str]]:
        """Seed and event (one of EVENTS) of each clip by its name, which is enough to make the clip again."""
        first = first_seed(self.seed)
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
