"""What happens when: bodies, events and the scene of every frame, before any camera looks at them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .world import COLOURS, DIRECTIONS, MARGIN, SHAPES, SIDE, SPEEDS, TIMES, Body, make_body, pick, put

EVENTS = ("flash", "vanish", "appear", "recolour", "move", "cut")
WAYS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
THIRDS = ((0.1, 0.27), (0.41, 0.58), (0.73, 0.9))  # where the middle of an event may lie
Scene = tuple[Body, ...]


@dataclass(frozen=True)
class Event:
    """kind is one of EVENTS or "carry" (under a cover); it shows in the frames first..last (inclusive).

    body is the one to which it happens (for a flash the flashing one, for a cut None), to the same afterwards if it
    moves, turns or is carried, and scene what a cut leads to. A slow event fades or drifts.
    """

    kind: str
    first: int
    last: int
    body: Body | None = None
    to: Body | None = None
    scene: Scene = ()
    slow: bool = False

    @property
    def middle(self) -> float:
        """In frames, from the beginning of the clip."""
        return (self.first + self.last + 1) / 2 if self.last > self.first or self.kind == "flash" else float(self.first)

    @property
    def detail(self) -> str:
        """The new colour of a recolour, the direction of a move."""
        if self.body is None or self.to is None:
            return ""
        if self.kind == "recolour":
            return self.to.colour
        dx, dy = self.to.x - self.body.x, self.to.y - self.body.y
        return DIRECTIONS[int(dx > 0)] if abs(dx) > abs(dy) else DIRECTIONS[2 + int(dy > 0)]

    def when(self, frames: int) -> str:
        """The third of the clip in which it lies."""
        return TIMES[min(int(self.middle / frames * 3), 2)]

    def reversed(self, frames: int, before: Scene) -> Event:
        """The event that a viewer sees when the clip runs backwards; before is the scene at the beginning."""
        kind = {"vanish": "appear", "appear": "vanish"}.get(self.kind, self.kind)
        first, last = frames - 1 - self.last, frames - 1 - self.first
        if self.kind != "flash":  # a change that shows from frame n on shows from its mirror image's next frame on
            first, last = first + 1, last + 1
        body, to = (self.body, None) if self.to is None else (self.to, self.body)
        return replace(self, kind=kind, first=first, last=last, body=body, to=to, scene=before if self.scene else ())

    def apply(self, scene: Scene, frame: int) -> Scene:
        """The scene as the event has left it at a frame."""
        length = self.last - self.first + 1
        done = min(max((frame - self.first + 1) / length, 0.0), 1.0)
        if self.kind == "cut":
            return self.scene if done else scene
        if self.body is None:
            return scene
        if self.kind == "flash":
            if not self.first <= frame <= self.last:
                return scene
            near = min(frame - self.first + 1, self.last - frame + 1)
            return (*scene, replace(self.body, opacity=min(1.0, 3 * near / (length + 1)) if self.slow else 1.0))
        if self.kind == "appear":
            return (*scene, replace(self.body, opacity=done)) if done else scene
        if self.kind == "vanish":
            rest = tuple(b for b in scene if b != self.body)
            return rest if done == 1 else tuple(replace(b, opacity=1 - done) if b == self.body else b for b in scene)
        if self.to is None or not done:
            return scene
        if done == 1:
            now = self.to
        elif self.kind == "recolour":
            now = replace(self.body, turning=self.to.colour, mix=done)
        else:
            now = self.body.at(
                self.body.x + done * (self.to.x - self.body.x), self.body.y + done * (self.to.y - self.body.y)
            )
        return tuple(now if b == self.body else b for b in scene)


@dataclass(frozen=True)
class Script:
    """scenes are the bodies of every frame, group the copies whose number is asked for, events in order of time.

    `cut` is the frame from which another background shows (the number of frames if there is none).
    """

    scenes: tuple[Scene, ...]
    group: Scene
    events: tuple[Event, ...]
    cut: int

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.scenes)

    def bodies(self) -> set[Body]:
        """Every body that stands somewhere at some time, at the ends of its ways."""
        ends = {b for e in self.events for b in (e.body, e.to, *e.scene) if b is not None}
        return ends | set(self.scenes[0]) | set(self.scenes[-1])

    def reversed(self) -> Script:
        """The script of the same clip played backwards."""
        events = tuple(e.reversed(self.frames, self.scenes[0]) for e in self.events[::-1])
        return Script(self.scenes[::-1], self.group, events, self.frames - self.cut)

    def without_events(self) -> Script:
        """The script in which nothing happens."""
        return Script((self.scenes[0],) * self.frames, self.group, (), self.frames)


def play(bodies: Scene, group: Scene, events: tuple[Event, ...], frames: int) -> Script:
    """The script of some events."""
    events = tuple(sorted(events, key=lambda e: e.first))
    scenes = []
    for frame in range(frames):
        scene = bodies
        for event in events:
            scene = event.apply(scene, frame)
        scenes.append(scene)
    cut = next((e.first for e in events if e.kind == "cut"), frames)
    return Script(tuple(scenes), group, events, cut)


def set_stage(
    rng: np.random.Generator, split: str, taken: Scene = (), copies: int | None = None
) -> tuple[Scene, Scene] | None:
    """2 or 3 bodies of distinct colours and shapes, and a group of 1 to 4 copies; or None if they do not fit.

    No colour or shape of `taken` is used; copies=0 leaves the group out.
    """
    colours = [str(c) for c in rng.permutation(COLOURS) if c not in {b.colour for b in taken}]
    shapes = [str(s) for s in rng.permutation(SHAPES) if s not in {b.shape for b in taken}]
    single = int(rng.integers(2, 4))
    copies = int(rng.integers(1, 5)) if copies is None else copies
    placed: list[Body] = []
    for i in range(single + copies):
        j = min(i, single)
        body = put(rng, make_body(rng, colours[j], shapes[j], split), placed)
        if body is None:
            return None
        placed.append(body)
    return tuple(placed[:single]), tuple(placed[single:])


def moment(rng: np.random.Generator, frames: int, length: int) -> int:
    """First frame of an event of `length` frames whose middle lies well inside a random third of the clip."""
    low, high = THIRDS[int(rng.integers(3))]
    first = round(rng.uniform(low, high) * frames - length / 2)
    return min(max(first, 1), max(1, frames - 1 - length))


def newcomer(rng: np.random.Generator, split: str, known: Scene, absent: Scene = ()) -> Body | None:
    """One more body of a new colour and shape at a free place; `absent` are known bodies that take no place."""
    colour = str(rng.choice([c for c in COLOURS if c not in {b.colour for b in (*known, *absent)}]))
    shape = str(rng.choice([s for s in SHAPES if s not in {b.shape for b in (*known, *absent)}]))
    return put(rng, make_body(rng, colour, shape, split), list(known))


def route(rng: np.random.Generator, body: Body, others: list[Body]) -> Body | None:
    """The body 20 to 44 pixels further in a random direction with a free way, or None."""
    dx, dy = WAYS[str(rng.choice(DIRECTIONS))]
    distance = rng.uniform(20, 44)
    to = body.at(body.x + dx * distance, body.y + dy * distance)
    edge = MARGIN + body.r
    if not (edge < to.x < SIDE - edge and edge < to.y < SIDE - edge):
        return None
    way = [body.at(body.x + dx * s, body.y + dy * s) for s in np.linspace(0, distance, 12)]
    return to if all(b.far_from(o, 2) for b in way for o in others) else None


def draw_event(
    rng: np.random.Generator, kind: str, frames: int, split: str, singles: Scene, known: Scene, slow: bool = False
) -> Event | None:
    """An event of a kind to one of `singles`, or None without room; it touches and resembles none of `known`."""
    body, to, length = singles[int(rng.integers(len(singles)))], None, 1
    scene: Scene = ()
    if kind in ("flash", "appear"):
        fresh = newcomer(rng, split, known)
        if fresh is None:
            return None
        body = fresh
        length = int(rng.integers(1, 3)) if kind == "flash" and frames >= 16 else 1
    elif kind == "recolour":
        to = replace(body, colour=str(rng.choice([c for c in COLOURS if c not in {b.colour for b in known}])))
    elif kind == "move":
        to = route(rng, body, [b for b in known if b != body])
        if to is None:
            return None
        distance = abs(to.x - body.x) + abs(to.y - body.y)
        length = min(round(distance / pick(rng, SPEEDS[split])), max(1, frames // 2))
    elif kind == "cut":
        staged = set_stage(rng, split, tuple(b for b in known if b not in singles), 0)
        if staged is None or {b.name for b in staged[0]} & {b.name for b in known}:
            return None
        scene = staged[0]
    first = moment(rng, frames, length if kind in ("flash", "move") else 0)
    event = Event(kind, first, first + length - 1, None if kind == "cut" else body, to, scene)
    return slow_down(event, frames) if slow else event


def slow_down(event: Event, frames: int) -> Event:
    """The same event over about a quarter of the clip (a move: two fifths), in the same third; a cut stays a cut."""
    if event.kind == "cut" or frames < 12:
        return event
    length = round(frames * (0.4 if event.kind == "move" else 0.24))
    middle = min(max(event.middle, 1 + length / 2), frames - 1 - length / 2)
    low, high = next((a, b) for a, b in ((0, 1 / 3), (1 / 3, 2 / 3), (2 / 3, 1)) if event.middle / frames < b)
    middle = min(max(middle, low * frames + 0.5), high * frames - 1)
    first = max(1, round(middle - length / 2))
    return replace(event, first=first, last=min(first + length, frames - 1) - 1, slow=True)
