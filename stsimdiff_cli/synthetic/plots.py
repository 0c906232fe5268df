"""Writes the script of a seed and rung: the event of rung `still`, and what some rungs add to it."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from .script import EVENTS, WAYS, Event, Scene, Script, draw_event, moment, newcomer, play, set_stage, slow_down
from .world import DIRECTIONS, MARGIN, RADII, SIDE, SPLITS, Body, put

# The kinds of the event that a rung shares with its twin, where not all of EVENTS will do.
KINDS = {"several": ("flash", "vanish", "recolour", "move"), "long": ("flash",)}
APART = 3  # frames at least between two events of a clip, and from both its ends
MOST_FLASHES, MOST_NEEDLES = 4, 3
ROOM = max(high for _, high in RADII["train"])  # pixels, radius of the largest body


def kinds_of(rung: str, frames: int) -> tuple[str, ...]:
    """The kinds of event that a clip of a rung and a length can have."""
    return tuple(k for k in KINDS.get(rung, EVENTS) if frames > 2 or k != "flash") if frames > 1 else ("none",)


def write_script(seed: int, rung: str, split: str, frames: int, kind: str | None) -> tuple[Script, str]:
    """The script of a seed, and the kind of its event: for the same kind that of rung `still` with additions."""
    rng = np.random.default_rng([seed, SPLITS.index(split), frames])
    kinds, draw = kinds_of(rung, frames), rng.random()
    kind = kinds[int(draw * len(kinds))] if kind is None else kind
    while True:
        staged = set_stage(rng, split)
        if staged is None:
            continue
        singles, group = staged
        known = (*singles, *group)
        event = None if kind == "none" else draw_event(rng, kind, frames, split, singles, known)
        if kind != "none" and event is None:
            continue
        guest = put(rng, Body("", "", 0.0, 0.0, ROOM), list(_known(known, (event,) if event is not None else ())))
        if guest is not None:  # there is room for what rungs add
            break
    if event is None:
        return play(known, group, (), frames), kind
    extra = np.random.default_rng([seed, SPLITS.index(split), frames, 1])
    if rung == "slow":
        return play(known, group, (slow_down(event, frames),), frames), kind
    events: tuple[Event, ...] = (event,)
    if rung == "several":
        events = several(extra, event, singles, known, split, frames)
    elif rung == "long":
        events = needles(extra, event, known, split, frames)
    elif rung == "occluders" and frames >= 16:
        carried = carry(extra, event, singles, group, frames)
        events = (event, carried) if carried is not None else events
    return play(known, group, events, frames), kind


def apart(events: tuple[Event, ...], frames: int) -> bool:
    """Whether the events neither overlap nor touch each other or the ends."""
    order = sorted(events, key=lambda e: e.first)
    gaps = [b.first - a.last for a, b in itertools.pairwise(order)]
    return order[0].first >= 1 and order[-1].last < frames - 1 and all(gap > APART for gap in gaps)


def _known(known: Scene, events: tuple[Event, ...]) -> Scene:
    """All bodies of a scene and of some events."""
    return (*known, *(b for e in events for b in (e.body, e.to) if b is not None))


def several(
    rng: np.random.Generator, event: Event, singles: Scene, known: Scene, split: str, frames: int
) -> tuple[Event, ...]:
    """The event and others: one to four flashes of one body, or three events of which each happens once."""
    others = [k for k in ("vanish", "recolour", "move") if k != event.kind]
    while True:
        counting = rng.random() < 0.5
        kinds = [str(k) for k in rng.permutation(others)[: 1 if counting else 2]]
        if event.kind != "flash":
            kinds[0] = "flash"
        events: tuple[Event, ...] = (event,)
        for kind in kinds:
            idle = tuple(b for b in singles if b not in {e.body for e in events})
            fresh = draw_event(rng, kind, frames, split, idle, _known(known, events)) if idle else None
            events = events if fresh is None else (*events, _anywhere(rng, fresh, frames))
        flash = next((e for e in events if e.kind == "flash"), None)
        if counting and flash is not None:
            for _ in range(int(rng.integers(MOST_FLASHES))):
                events = (*events, _anywhere(rng, flash, frames))
        if len(events) > len(kinds) and apart(events, frames):
            return events


def _anywhere(rng: np.random.Generator, event: Event, frames: int) -> Event:
    """The event at any time."""
    length = event.last - event.first
    first = int(rng.integers(1, frames - 1 - length))
    return replace(event, first=first, last=first + length)


def needles(rng: np.random.Generator, event: Event, known: Scene, split: str, frames: int) -> tuple[Event, ...]:
    """The flash of the twin and up to two more, of other bodies, at other depths (and perhaps at the same place)."""
    count = int(rng.integers(1, MOST_NEEDLES + 1))
    while True:
        events: tuple[Event, ...] = (event,)
        while len(events) < count:
            body = newcomer(rng, split, known, _known((), events))
            if body is None:
                continue
            length = int(rng.integers(1, 3))
            first = moment(rng, frames, length)
            events = (*events, Event("flash", first, first + length - 1, body))
        if len(events) == count and (count == 1 or apart(events, frames)):
            return events


def quiet(events: tuple[Event, ...], frames: int) -> tuple[int, int]:
    """First frame and end of the longest stretch in which nothing happens, two frames away from what does."""
    edges = [(0, 0), *((e.first - 2, e.last + 3) for e in sorted(events, key=lambda e: e.first)), (frames, frames)]
    return max(((a[1], b[0]) for a, b in itertools.pairwise(edges)), key=lambda s: s[1] - s[0])


def carry(rng: np.random.Generator, event: Event, singles: Scene, group: Scene, frames: int) -> Event | None:
    """A body is carried away under a cover and stays under it; None where there is no room or no time."""
    idle = [b for b in singles if b != event.body]
    start, end = quiet((event,), frames)
    if event.kind == "cut" or not idle or end - start < 8:
        return None
    body = idle[int(rng.integers(len(idle)))]
    taken: list[Body] = [b for b in _known((*singles, *group), (event,)) if b != body]
    edge = MARGIN + body.r
    for _ in range(30):
        dx, dy = WAYS[str(rng.choice(DIRECTIONS))]
        distance = rng.uniform(24, 60)
        to = body.at(body.x + dx * distance, body.y + dy * distance)
        inside = edge < to.x < SIDE - edge and edge < to.y < SIDE - edge
        if inside and all(np.hypot(to.x - o.x, to.y - o.y) > 1.25 * to.r + o.r + 2 for o in taken):
            first = start + (end - start) // 3 + 1
            return Event("carry", first, max(first, end - 2), body, to)
    return None
