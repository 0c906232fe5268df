"""Renders short clips of coloured shapes in which one event takes place, with questions and true answers. Seeded.

A clip shows 2 to 4 shapes of distinct colours and names on a textured background. Then one shape flashes, vanishes,
changes colour or moves, or the scene is cut to another one. long_clips.py makes clips with several events.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from .questions import COLOURS, COUNTS, DIRECTIONS, EVENTS, TIMES, Question, event_sentence, wordings
from .scenes import (
    SPEEDS,
    SPLITS,
    check_split,
    choose_move,
    distance_between,
    part_way,
    place_shapes,
    render_scenes,
    replaced,
    uniform_in,
    without,
)
from .shapes import Scene, Shape

FPS = 8.0


@dataclass(frozen=True)
class Event:
    """What happens in the frames first to last (both included). kind is one of EVENTS, when one of TIMES.

    shape is the shape before the event (the flashing one for a flash, None for a cut); detail is the new colour or the
    direction.
    """

    kind: str
    first: int
    last: int
    when: str
    shape: Shape | None = None
    detail: str = ""


class Plan(NamedTuple):
    """What a clip will show: its events in order of time, and the scene of each frame."""

    events: tuple[Event, ...]
    scenes: list[Scene]


class Fact(NamedTuple):
    """Something that can be asked, before it is put into words. kind is one of KINDS.

    wording names the entry of WORDINGS where that is not `kind`. For the kind "nothing", it is the event asked about.
    """

    kind: str
    colour: str
    shape: str
    answer: str
    wording: str = ""

    def ask(self, rng: np.random.Generator) -> Question:
        """The question in one of its wordings, chosen at random."""
        options = wordings(self.wording or self.kind, self.colour, self.shape)
        return Question(self.kind, options[int(rng.integers(len(options)))], self.answer)


@dataclass(frozen=True)
class Clip:
    """frames (T, 96, 96, 3) uint8, the scene of each frame, the events, what can be asked, and the questions."""

    frames: np.ndarray
    fps: float
    scenes: tuple[Scene, ...]
    events: tuple[Event, ...]
    facts: list[Fact]
    questions: list[Question]

    @property
    def event(self) -> Event | None:
        """The only event; None if there are none or several."""
        return self.events[0] if len(self.events) == 1 else None


def render_clip(seed: int, split: str = "train", frames: int = 32, event: str | None = None, fps: float = FPS) -> Clip:
    """The clip of a seed: `event` is one of EVENTS, "none", or None for a random one of EVENTS.

    The same arguments always give the same clip. ValueError for an unknown split.
    """
    check_split(split)
    rng = np.random.default_rng([seed, SPLITS.index(split), frames])
    possible = [kind for kind in EVENTS if not (kind == "flash" and frames < 3)]
    kind = (str(rng.choice(possible)) if frames > 1 else "none") if event is None else event
    plan = None
    while plan is None:
        plan = plan_event(rng, frames, kind, split)
    return render_plan(rng, plan, split, fps)


def render_plan(rng: np.random.Generator, plan: Plan, split: str, fps: float) -> Clip:
    """Render a plan and word its questions."""
    cut = next((event.first for event in plan.events if event.kind == "cut"), len(plan.scenes))
    frames = render_scenes(rng, plan.scenes, cut, split)
    facts = facts_of(plan)
    return Clip(frames, fps, tuple(plan.scenes), plan.events, facts, [fact.ask(rng) for fact in facts])


# --- planning -------------------------------------------------------------------------------------------------------


def plan_event(rng: np.random.Generator, frames: int, kind: str, split: str) -> Plan | None:
    """A plan with one event, or with none if `kind` is "none". None if the random choices do not fit: try again."""
    scene = place_shapes(rng, int(rng.integers(2, 5)), split)
    if scene is None:
        return None
    scenes = [scene] * frames
    if kind == "none":
        return Plan((), scenes)
    target = scene[int(rng.integers(len(scene)))]  # drawn for every kind of event, used by two
    if kind == "flash":
        return _plan_flash(rng, scenes, split)
    if kind == "move":
        return _plan_move(rng, scenes, split)
    return _plan_change(rng, scenes, kind, target, split)


def _plan_flash(rng: np.random.Generator, scenes: list[Scene], split: str) -> Plan | None:
    scene, frames = scenes[0], len(scenes)
    extra = place_shapes(rng, 1, split, scene)
    length = int(rng.integers(1, 3)) if frames >= 16 else 1
    if extra is None or frames < 3:
        return None
    first, when = _choose_time(rng, frames, length)
    scenes[first : first + length] = [scene + extra] * length
    return Plan((Event("flash", first, first + length - 1, when, extra[0]),), scenes)


def _plan_move(rng: np.random.Generator, scenes: list[Scene], split: str) -> Plan | None:
    scene, frames = scenes[0], len(scenes)
    direction = str(rng.choice(DIRECTIONS))
    move = choose_move(rng, scene, direction)
    if move is None:
        return None
    start, end = move
    length = min(round(distance_between(start, end) / uniform_in(rng, SPEEDS[split])), max(1, frames // 2))
    first, when = _choose_time(rng, frames, length) if frames > 2 else (1, "middle")
    for i in range(first, frames):
        scenes[i] = replaced(scene, start, part_way(start, end, min((i - first + 1) / length, 1.0)))
    last = min(first + length, frames) - 1
    return Plan((Event("move", first, last, when, start, direction),), scenes)


def _plan_change(rng: np.random.Generator, scenes: list[Scene], kind: str, target: Shape, split: str) -> Plan | None:
    """Events that take no time: `target` vanishes or changes colour, or the scene is cut."""
    scene, frames = scenes[0], len(scenes)
    first, when = _choose_time(rng, frames, 0) if frames > 2 else (1, "middle")
    shape: Shape | None = target
    detail, after = "", scene
    if kind == "vanish":
        after = without(scene, target)
    elif kind == "recolour":
        detail = str(rng.choice([c for c in COLOURS if c not in {s.colour for s in scene}]))
        after = replaced(scene, target, replace(target, colour=detail))
    else:
        fresh = place_shapes(rng, int(rng.integers(2, 5)), split)
        if fresh is None:
            return None
        after, shape = fresh, None
    scenes[first:] = [after] * (frames - first)
    return Plan((Event(kind, first, first, when, shape, detail),), scenes)


def _choose_time(rng: np.random.Generator, frames: int, length: int) -> tuple[int, str]:
    """First frame of an event of `length` frames whose middle is well inside a third of the clip, and that third."""
    third = int(rng.integers(3))
    low, high = ((0.1, 0.27), (0.41, 0.58), (0.73, 0.9))[third]
    first = round(rng.uniform(low, high) * frames - length / 2)
    first = min(max(first, 1), frames - 1 - length)
    middle = (first + length / 2) / frames
    return first, TIMES[min(int(middle * 3), 2)]


# --- what can be asked ----------------------------------------------------------------------------------------------


def facts_of(plan: Plan) -> list[Fact]:
    """Everything that can be asked about a clip without ambiguity.

    With several events nobody asks what happens or when, and the count is that of the first frame.
    """
    first, last = plan.scenes[0], plan.scenes[-1]
    kinds = {event.kind for event in plan.events}
    after_cut = last if "cut" in kinds else ()
    recoloured = {event.shape for event in plan.events if event.kind == "recolour"}
    several = len(plan.events) > 1
    facts = [Fact("count", "", "", COUNTS[len(first) - 2], "count first" if several else "")]
    for shape in first:
        if shape in recoloured:
            continue
        if shape.name not in {other.name for other in after_cut}:
            facts.append(Fact("colour", "", shape.name, shape.colour))
        if shape.colour not in {other.colour for other in after_cut}:
            facts.append(Fact("shape", shape.colour, "", shape.name))
    if plan.events and not several:
        facts += _what_and_when(plan.events[0], len(plan.scenes))
    for event in plan.events:
        if event.shape is None:
            continue
        colour, name = event.shape.colour, event.shape.name
        if event.kind in ("flash", "vanish"):
            facts.append(Fact(event.kind, "", "", f"{colour} {name}"))
        else:
            facts.append(Fact(event.kind, colour, name, event.detail))
    if "cut" not in kinds:
        facts += [Fact("nothing", "", "", "nothing", kind) for kind in ("flash", "vanish") if kind not in kinds]
    return facts


def _what_and_when(event: Event, frames: int) -> list[Fact]:
    """What happens; and when, in clips of 12 frames or more."""
    colour, name = (event.shape.colour, event.shape.name) if event.shape is not None else ("", "")
    facts = [Fact("what", "", "", event_sentence(event.kind, colour, name, event.detail))]
    return [*facts, Fact("when", "", "", event.when)] if frames >= 12 else facts
