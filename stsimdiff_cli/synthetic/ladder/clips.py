"""Clips of the ladder: a script, the view of a rung, pixels and questions; a pure function of the arguments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .draw import make_look, pictures
from .plots import write_script
from .questions import Fact, Question, facts_of
from .rungs import RUNGS, View, make_view
from .script import EVENTS, Script
from .world import SPLITS

FPS = 8.0
ORDERS = ("forward", "reversed", "without")


@dataclass(frozen=True)
class Clip:
    """frames (T, 112, 112, 3) uint8; script is what is there and happens, view how the rung shows it.

    kind is the kind of the event that the clip shares with its twin; order is one of ORDERS. depths are the middles
    of its events as parts of the clip.
    """

    rung: str
    kind: str
    order: str
    frames: np.ndarray
    fps: float
    script: Script
    view: View
    facts: list[Fact]
    questions: list[Question]

    @property
    def depths(self) -> tuple[float, ...]:
        """Where in the clip its events lie, 0 to 1."""
        return tuple(e.middle / self.script.frames for e in self.script.events)


def make_clip(
    seed: int,
    rung: str = "still",
    split: str = "train",
    frames: int = 32,
    kind: str | None = None,
    order: str = "forward",
) -> Clip:
    """The clip of a seed on a rung.

    kind is the kind of the event, "none", or None for a random one; order "reversed" plays the same frames
    backwards, "without" leaves the events out.
    """
    for name, value, allowed in (("rung", rung, RUNGS), ("split", split, SPLITS), ("order", order, ORDERS)):
        if value not in allowed:
            raise ValueError(f"{name}: got {value!r}, expected one of {allowed}")
    if kind not in (None, "none", *EVENTS):
        raise ValueError(f"kind: got {kind!r}, expected one of {EVENTS} or 'none'")
    if rung in ("several", "long") and frames < 24:
        raise ValueError(f"rung {rung} needs 24 frames or more, got {frames}")
    script, kind = write_script(seed, rung, split, frames, kind)
    parts = [seed, SPLITS.index(split), frames]
    view = make_view(np.random.default_rng([*parts, 2 + RUNGS.index(rung)]), rung, split, script)
    shown = script.without_events() if order == "without" else script
    cut, moving = shown.cut < frames, bool(view.drift.any())
    look = make_look(np.random.default_rng([*parts, 100]), split, cut, moving)
    images = np.stack(list(pictures(shown, view, look, np.random.default_rng([*parts, 101]))))
    if order == "reversed":
        shown, view, images = script.reversed(), view.reversed(), images[::-1].copy()
    rng = np.random.default_rng([*parts, 102, ORDERS.index(order)])
    facts = facts_of(shown, rng)
    fps = frames / view.seconds if view.seconds else FPS
    return Clip(rung, kind, order, images, fps, shown, view, facts, [f.ask(rng) for f in facts])


def twin_of(clip: Clip, seed: int, split: str) -> Clip:
    """The clip of rung `still` with the seed, event and order of a clip."""
    return make_clip(seed, "still", split, len(clip.frames), clip.kind, clip.order)
