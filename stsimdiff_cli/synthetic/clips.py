"""Clips of the ladder: a script, the view of a rung, pixels and questions; a pure function of the arguments."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from .draw import make_look, pictures
from .plots import write_script
from .questions import Fact, Question, facts_of
from .rungs import RUNGS, View, make_view
from .script import EVENTS, Script
from .world import SPLITS

FPS = 8.0
ORDERS = ("forward", "reversed", "without")
LEAST_FRAMES = {"several": 24, "long": 24}  # of rungs that need room for more than one event


@dataclass(frozen=True)
class Outline:
    """A clip without its pixels: script is what is there and happens, view how the rung shows it.

    kind is the kind of the event that the clip shares with its twin; order is one of ORDERS. depths are the middles
    of its events as parts of the clip. questions are the facts, each in one of its wordings.
    """

    rung: str
    kind: str
    order: str
    fps: float
    script: Script
    view: View
    facts: list[Fact]
    questions: list[Question]

    @property
    def depths(self) -> tuple[float, ...]:
        """Where in the clip its events lie, 0 to 1."""
        return tuple(e.middle / self.script.frames for e in self.script.events)


@dataclass(frozen=True)
class Clip(Outline):
    """A clip with its frames (T, 112, 112, 3) uint8."""

    frames: np.ndarray


def outline_clip(
    seed: int,
    rung: str = "still",
    split: str = "train",
    frames: int = 32,
    kind: str | None = None,
    order: str = "forward",
) -> Outline:
    """What the clip of a seed on a rung shows and what can be asked about it. Parameters as `make_clip`."""
    script, view, kind = _script_and_view(seed, rung, split, frames, kind, order)
    return _outline([seed, SPLITS.index(split), frames], rung, kind, order, script, view)


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
    script, view, kind = _script_and_view(seed, rung, split, frames, kind, order)
    parts = [seed, SPLITS.index(split), frames]
    outline = _outline(parts, rung, kind, order, script, view)
    shown = script.without_events() if order == "without" else script
    cut, moving = shown.cut < frames, bool(view.drift.any())
    look = make_look(np.random.default_rng([*parts, 100]), split, cut, moving)
    images = np.stack(list(pictures(shown, view, look, np.random.default_rng([*parts, 101]))))
    if order == "reversed":
        images = images[::-1].copy()
    return Clip(**{each.name: getattr(outline, each.name) for each in fields(outline)}, frames=images)


def _script_and_view(
    seed: int, rung: str, split: str, frames: int, kind: str | None, order: str
) -> tuple[Script, View, str]:
    """Script and view of the clip that runs forward, and the kind of its event."""
    for name, value, allowed in (("rung", rung, RUNGS), ("split", split, SPLITS), ("order", order, ORDERS)):
        if value not in allowed:
            raise ValueError(f"{name}: got {value!r}, expected one of {allowed}")
    if kind not in (None, "none", *EVENTS):
        raise ValueError(f"kind: got {kind!r}, expected one of {EVENTS} or 'none'")
    if frames < LEAST_FRAMES.get(rung, 1):
        raise ValueError(f"rung {rung} needs {LEAST_FRAMES[rung]} frames or more, got {frames}")
    script, kind = write_script(seed, rung, split, frames, kind)
    rng = np.random.default_rng([seed, SPLITS.index(split), frames, 2 + RUNGS.index(rung)])
    return script, make_view(rng, rung, split, script), kind


def _outline(parts: list[int], rung: str, kind: str, order: str, script: Script, view: View) -> Outline:
    """The outline of a clip from its forward script and view; `parts` seed what is asked."""
    shown = script.without_events() if order == "without" else script
    if order == "reversed":
        shown, view = script.reversed(), view.reversed()
    rng = np.random.default_rng([*parts, 102, ORDERS.index(order)])
    facts = facts_of(shown, rng)
    fps = len(script.scenes) / view.seconds if view.seconds else FPS
    return Outline(rung, kind, order, fps, shown, view, facts, [f.ask(rng) for f in facts])


def twin_of(clip: Clip, seed: int, split: str) -> Clip:
    """The clip of rung `still` with the seed, event and order of a clip."""
    return make_clip(seed, "still", split, clip.script.frames, clip.kind, clip.order)
