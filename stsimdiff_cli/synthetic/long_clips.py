"""Renders long clips, in which several events take place one after the other. Seeded.

A long clip has 2 to 6 events of the kinds of clips.py. At most one shape flashes and at most one vanishes; two may move
and two may change colour, each shape at most once. A cut is always the last event, and never comes with a vanishing
shape, since a cut takes shapes away too. Only questions with a single answer are asked: not what happens, nor when.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from .clips import FPS, Clip, Event, Plan, render_plan
from .questions import COLOURS, DIRECTIONS, TIMES
from .scenes import (
    SPEEDS,
    SPLITS,
    check_split,
    choose_move,
    distance_between,
    part_way,
    place_shapes,
    replaced,
    uniform_in,
    without,
)
from .shapes import Scene, Shape

MAX_EVENTS = 6
GAP = 2  # slots between two events, and at both ends


def render_long_clip(
    seed: int, split: str = "train", frames: int = 64, count: int = 3, pace: float = 1.0, fps: float = FPS
) -> Clip:
    """The long clip of a seed with `count` events (2 to 6).

    A model is expected to see every `pace`-th frame: a flash lasts at least that long, and a move takes as many of the
    frames seen as in a short clip, or fewer where time is short. ValueError for an unknown split, or for more events
    than fit.
    """
    check_split(split)
    if not 2 <= count <= MAX_EVENTS or frames / pace < 4 * (count + 2):
        raise ValueError(f"{count} events do not fit into {frames / pace:.0f} slots")
    rng = np.random.default_rng([seed, SPLITS.index(split), frames, count])
    plan = None
    while plan is None:
        plan = plan_events(rng, frames, count, split, pace)
    return render_plan(rng, plan, split, fps)


class _Step(NamedTuple):
    """An event before its time is known: the scene after it, and how many frames it lasts."""

    kind: str
    shape: Shape | None
    detail: str
    after: Scene
    length: int


def plan_events(rng: np.random.Generator, frames: int, count: int, split: str, pace: float) -> Plan | None:
    """A plan with `count` events. None if the random choices do not fit: try again."""
    kinds = _choose_kinds(rng, count)
    changed = sum(kind in ("vanish", "recolour", "move") for kind in kinds)
    scene = place_shapes(rng, int(rng.integers(max(2, changed), 5)), split)
    if scene is None:
        return None
    steps = _choose_steps(rng, kinds, scene, split, pace, max(1.0, 0.6 * frames / pace / (count + 1)))
    if steps is None:
        return None
    slack = frames - sum(step.length for step in steps) - GAP * pace * (count + 1)
    if slack < 0:
        return None
    pauses = np.diff([0.0, *np.sort(rng.uniform(0, slack, count)), slack])
    return _lay_out(scene, steps, [GAP * pace + pause for pause in pauses], frames)


def _choose_kinds(rng: np.random.Generator, count: int) -> list[str]:
    """`count` kinds of event in the order in which they take place."""
    cut = rng.random() < 0.25 or count == MAX_EVENTS
    once = ["flash", "recolour", "move", "cut" if cut else "vanish"]
    again = ["recolour", "move"]
    kinds = [once[i] for i in rng.permutation(4)] + [again[i] for i in rng.permutation(2)]
    kinds = [kinds[i] for i in rng.permutation(count)]
    return sorted(kinds, key=lambda kind: kind == "cut")


def _choose_steps(
    rng: np.random.Generator, kinds: list[str], scene: Scene, split: str, pace: float, room: float
) -> list[_Step] | None:
    """Which shape each event concerns, and how; None if one of them does not fit. A move has `room` slots."""
    untouched, known = list(scene), list(scene)  # shapes that no event has changed, and all that were ever seen
    steps: list[_Step] = []
    for kind in kinds:
        shape: Shape | None = None
        detail, after, distance = "", scene, 0.0
        if kind == "flash":
            extra = place_shapes(rng, 1, split, tuple(known))
            if extra is None:
                return None
            shape = extra[0]
            known.append(shape)
        elif kind == "move":
            detail = str(rng.choice(DIRECTIONS))
            move = choose_move(rng, scene, detail)
            if move is None or move[0] not in untouched:
                return None
            shape, end = move
            distance = distance_between(shape, end)
            after = replaced(scene, shape, end)
            known.append(end)
        elif kind == "cut":
            fresh = place_shapes(rng, int(rng.integers(2, 5)), split)
            if fresh is None:
                return None
            after = fresh
        else:
            shape = untouched[int(rng.integers(len(untouched)))]
            if kind == "vanish":
                after = without(scene, shape)
            else:
                detail = str(rng.choice([c for c in COLOURS if c not in {s.colour for s in known}]))
                recoloured = replace(shape, colour=detail)
                after = replaced(scene, shape, recoloured)
                known.append(recoloured)
        if kind in ("vanish", "recolour", "move"):
            untouched = [other for other in untouched if other is not shape]
        steps.append(_Step(kind, shape, detail, after, _choose_length(rng, kind, distance, split, pace, room)))
        scene = after
    return steps


def _choose_length(rng: np.random.Generator, kind: str, distance: float, split: str, pace: float, room: float) -> int:
    """How many frames an event lasts; a slot is `pace` frames, and a move has `room` slots."""
    if kind == "flash":
        return int(rng.integers(1, 3)) if pace <= 1 else int(np.ceil(pace * rng.uniform(1.0, 1.8))) + 1
    if kind == "move":
        return max(1, round(pace * min(distance / uniform_in(rng, SPEEDS[split]), room)))
    return 0


def _lay_out(scene: Scene, steps: list[_Step], pauses: list[float], frames: int) -> Plan:
    """The scene of each frame: each step after its pause, in frames."""
    events: list[Event] = []
    scenes: list[Scene] = []
    now = 0.0
    for step, pause in zip(steps, pauses, strict=False):  # the pause that is left follows the last event
        now += pause
        first = round(now)
        scenes += [scene] * (first - len(scenes))
        if step.kind == "flash" and step.shape is not None:
            scenes += [(*scene, step.shape)] * step.length
        elif step.kind == "move" and step.shape is not None:
            start = step.shape
            end = next(s for s in step.after if (s.colour, s.name) == (start.colour, start.name))
            ways = (part_way(start, end, (i + 1) / step.length) for i in range(step.length))
            scenes += [replaced(scene, start, way) for way in ways]
        now += step.length
        when = TIMES[min(int((first + step.length / 2) / frames * 3), 2)]
        events.append(Event(step.kind, first, first + max(step.length, 1) - 1, when, step.shape, step.detail))
        scene = step.after
    scenes += [scene] * (frames - len(scenes))
    return Plan(tuple(events), scenes)
