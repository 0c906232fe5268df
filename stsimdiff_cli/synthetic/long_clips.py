"""Renders clips in which several things happen, one after the other. numpy only, seeded.

A tale has 2 to 6 events of the kinds of clips.py. At most one object flashes and at most one vanishes; two may move and
two may turn another colour, each object at most once. A scene change is the last event and keeps company with no
vanishing object, since it takes the others away too. The questions are those that stay unambiguous: of the event, not
when it happens or what happens.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .clips import FPS, SPEEDS, SPLITS, Clip, Event, Fact, pick, place, render, route
from .questions import COLOURS, COUNTS, DIRECTIONS, TIMES
from .shapes import Thing

MOST = 6  # events
GAP = 2  # slots between two events, and at both ends


def draw_kinds(rng: np.random.Generator, count: int) -> list[str]:
    """`count` kinds of event in the order in which they take place."""
    cut = rng.random() < 0.25 or count == MOST
    first = ["flash", "recolour", "move", "cut" if cut else "vanish"]
    again = ["recolour", "move"]
    kinds = [first[i] for i in rng.permutation(4)] + [again[i] for i in rng.permutation(2)]
    kinds = [kinds[i] for i in rng.permutation(count)]
    return sorted(kinds, key=lambda kind: kind == "cut")


def length_of(rng: np.random.Generator, kind: str, distance: float, split: str, pace: float, room: float) -> int:
    """How many frames an event lasts; a slot is `pace` frames, and a move has `room` slots."""
    if kind == "flash":
        return int(rng.integers(1, 3)) if pace <= 1 else int(np.ceil(pace * rng.uniform(1.0, 1.8))) + 1
    if kind == "move":
        return max(1, round(pace * min(distance / pick(rng, SPEEDS[split]), room)))
    return 0


def plot(
    rng: np.random.Generator, frames: int, count: int, split: str, pace: float
) -> tuple[list[Event], list[tuple[Thing, ...]]] | None:
    """The events of a tale and the objects of each frame, or None when the dice did not fit (roll again)."""
    kinds = draw_kinds(rng, count)
    touched = sum(kind in ("vanish", "recolour", "move") for kind in kinds)
    things = place(rng, int(rng.integers(max(2, touched), 5)), split)
    if things is None:
        return None
    scene, idle, known = things, list(things), list(things)
    steps: list[
        tuple[str, Thing | None, str, tuple[Thing, ...], int]
    ] = []  # kind, object, detail, scene behind, frames
    room = max(1.0, 0.6 * frames / pace / (count + 1))
    for kind in kinds:
        target, detail, after, distance = None, "", scene, 0.0
        if kind == "flash":
            extra = place(rng, 1, split, tuple(known))
            if extra is None:
                return None
            target = extra[0]
            known.append(target)
        elif kind == "move":
            detail = str(rng.choice(DIRECTIONS))
            found = route(rng, scene, detail)
            if found is None or found[0] not in idle:
                return None
            target, end = found
            distance = abs(end.x - target.x) + abs(end.y - target.y)
            after = tuple(end if t is target else t for t in scene)
            known.append(end)
        elif kind == "cut":
            fresh = place(rng, int(rng.integers(2, 5)), split)
            if fresh is None:
                return None
            after = fresh
        else:
            target = idle[int(rng.integers(len(idle)))]
            if kind == "vanish":
                after = tuple(t for t in scene if t is not target)
            else:
                detail = str(rng.choice([c for c in COLOURS if c not in {t.colour for t in known}]))
                turned = replace(target, colour=detail)
                after = tuple(turned if t is target else t for t in scene)
                known.append(turned)
        if kind in ("vanish", "recolour", "move"):
            idle = [t for t in idle if t is not target]
        steps.append((kind, target, detail, after, length_of(rng, kind, distance, split, pace, room)))
        scene = after
    slack = frames - sum(step[-1] for step in steps) - GAP * pace * (count + 1)
    if slack < 0:
        return None
    rests = np.diff([0.0, *np.sort(rng.uniform(0, slack, count)), slack])
    events: list[Event] = []
    scenes: list[tuple[Thing, ...]] = []
    scene, now = things, 0.0
    for (kind, target, detail, after, length), rest in zip(steps, rests, strict=False):
        now += GAP * pace + rest
        first = round(now)
        scenes += [scene] * (first - len(scenes))
        if kind == "flash" and target is not None:
            scenes += [(*scene, target)] * length
        elif kind == "move" and target is not None:
            end = next(t for t in after if (t.colour, t.shape) == (target.colour, target.shape))
            for i in range(length):
                f = (i + 1) / length
                at = replace(target, x=target.x + f * (end.x - target.x), y=target.y + f * (end.y - target.y))
                scenes.append(tuple(at if t is target else t for t in scene))
        now += length
        third = TIMES[min(int((first + length / 2) / frames * 3), 2)]
        events.append(Event(kind, first, first + max(length, 1) - 1, third, target, detail))
        scene = after
    scenes += [scene] * (frames - len(scenes))
    return events, scenes


def facts_of_tale(events: list[Event], scenes: list[tuple[Thing, ...]]) -> list[Fact]:
    """All that can be asked about a tale without ambiguity."""
    first, kinds = scenes[0], {event.kind for event in events}
    others = scenes[-1] if "cut" in kinds else ()
    turned = {event.thing for event in events if event.kind == "recolour"}
    facts = [Fact("count", "", "", COUNTS[len(first) - 2], "count first")]
    for t in first:
        if t in turned:
            continue
        if t.shape not in {o.shape for o in others}:
            facts.append(Fact("colour", "", t.shape, t.colour))
        if t.colour not in {o.colour for o in others}:
            facts.append(Fact("shape", t.colour, "", t.shape))
    for event in events:
        if event.thing is None:
            continue
        colour, shape = event.thing.colour, event.thing.shape
        if event.kind in ("flash", "vanish"):
            facts.append(Fact(event.kind, "", "", f"{colour} {shape}"))
        else:
            facts.append(Fact(event.kind, colour, shape, event.detail))
    if "cut" not in kinds:
        facts += [Fact("nothing", "", "", "nothing", kind) for kind in ("flash", "vanish") if kind not in kinds]
    return facts


def make_tale(
    seed: int, split: str = "train", frames: int = 64, count: int = 3, pace: float = 1.0, fps: float = FPS
) -> Clip:
    """The tale of a seed with `count` events (2 to 6).

    A model shall see every `pace`-th frame: a flash lasts at least that long, and a move as many of the frames seen
    as in a short clip, or fewer where time is short.
    """
    if split not in SPLITS:
        raise ValueError(f"split: got {split!r}, expected one of {SPLITS}")
    if not 2 <= count <= MOST or frames / pace < 4 * (count + 2):
        raise ValueError(f"{count} events do not fit into {frames / pace:.0f} slots")
    rng = np.random.default_rng([seed, SPLITS.index(split), frames, count])
    told = None
    while told is None:
        told = plot(rng, frames, count, split, pace)
    events, scenes = told
    cut = events[-1].first if events[-1].kind == "cut" else frames
    pictures = render(rng, scenes, cut, split)
    facts = facts_of_tale(events, scenes)
    questions = [fact.ask(rng) for fact in facts]
    return Clip(pictures, fps, scenes[0], None, tuple(scenes), facts, questions, tuple(events))
