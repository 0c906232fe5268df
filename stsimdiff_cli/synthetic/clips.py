"""Renders clips of coloured shapes in which one thing happens, with questions and true answers. numpy only, seeded.

A clip shows 2 to 4 objects of distinct colours and shapes on a textured background; then one event takes place:
an object flashes, vanishes, turns another colour or moves, or the scene is cut to another one.

The split is fixed here: clips of `heldout` differ from those of `train` in their random streams, in the background
textures, in the sizes of objects and in the speed of moving ones (see RADII and SPEEDS here, TEXTURES in draw.py).
samples.py writes some of them to video files.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from .questions import COLOURS, COUNTS, DIRECTIONS, EVENTS, SHAPES, TIMES, Question, sentence, wordings
from .shapes import RGB, SIDE, Thing, background, paint, soften

FPS = 8.0
SPLITS = ("train", "heldout")
RADII = {"train": ((9.0, 11.2), (12.2, 14.5)), "heldout": ((11.3, 12.1),)}  # pixels
SPEEDS = {"train": ((1.6, 2.4), (3.0, 4.5)), "heldout": ((2.5, 2.9),)}  # pixels a frame, in clips of 16 frames or more


@dataclass(frozen=True)
class Event:
    """kind is one of EVENTS; the frames first..last (inclusive) are those in which the event shows.

    thing is the object before the event (the flashing object for a flash, None for a cut); detail is the new colour or
    the direction; when is one of TIMES.
    """

    kind: str
    first: int
    last: int
    when: str
    thing: Thing | None = None
    detail: str = ""


class Fact(NamedTuple):
    """A question without its wording: `event` names the WORDINGS where these are not those of the kind.

    Where the kind is "nothing", that is the event asked for.
    """

    kind: str
    colour: str
    shape: str
    answer: str
    event: str = ""

    def ask(self, rng: np.random.Generator) -> Question:
        """The question in one of its wordings."""
        options = wordings(self.event or self.kind, self.colour, self.shape)
        return Question(self.kind, options[int(rng.integers(len(options)))], self.answer)


@dataclass(frozen=True)
class Clip:
    """frames (T, 96, 96, 3) uint8; things are the objects of the first frame, scenes those of each frame.

    A clip of make_clip has one event or none; the events of a tale (tales.py) are listed in `events`.
    """

    frames: np.ndarray
    fps: float
    things: tuple[Thing, ...]
    event: Event | None
    scenes: tuple[tuple[Thing, ...], ...]
    facts: list[Fact] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    events: tuple[Event, ...] = ()


def pick(rng: np.random.Generator, bands: tuple[tuple[float, float], ...]) -> float:
    """A number from one of the bands."""
    low, high = bands[int(rng.integers(len(bands)))]
    return float(rng.uniform(low, high))


def place(rng: np.random.Generator, count: int, split: str, taken: tuple[Thing, ...] = ()) -> tuple[Thing, ...] | None:
    """`count` new objects that touch none of the others and share no colour or shape, or None if they do not fit."""
    colours = [c for c in rng.permutation(COLOURS) if c not in {t.colour for t in taken}]
    shapes = [s for s in rng.permutation(SHAPES) if s not in {t.shape for t in taken}]
    placed: list[Thing] = []
    for i in range(count):
        for _ in range(30):
            r = pick(rng, RADII[split])
            x, y = rng.uniform(r + 1, SIDE - r - 1, 2)
            thing = Thing(str(colours[i]), str(shapes[i]), float(x), float(y), r)
            if all(np.hypot(x - o.x, y - o.y) > r + o.r + 3 for o in (*taken, *placed)):
                placed.append(thing)
                break
        else:
            return None
    return tuple(placed)


def route(rng: np.random.Generator, things: tuple[Thing, ...], direction: str) -> tuple[Thing, Thing] | None:
    """An object and the same object 20 to 44 pixels further in the direction with a free way, or None."""
    dx, dy = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}[direction]
    distance = rng.uniform(20, 44)
    for i in rng.permutation(len(things)):
        mover = things[i]
        end = replace(mover, x=mover.x + dx * distance, y=mover.y + dy * distance)
        if not (mover.r < end.x < SIDE - mover.r and mover.r < end.y < SIDE - mover.r):
            continue
        steps = np.linspace(0, distance, 12)
        others = [o for j, o in enumerate(things) if j != i]
        xs, ys = mover.x + dx * steps, mover.y + dy * steps
        if all((np.hypot(xs - o.x, ys - o.y) > mover.r + o.r + 2).all() for o in others):
            return mover, end
    return None


def moment(rng: np.random.Generator, frames: int, length: int) -> tuple[int, str]:
    """First frame of an event of `length` frames whose middle lies well inside a third of the clip, and that third."""
    third = int(rng.integers(3))
    low, high = ((0.1, 0.27), (0.41, 0.58), (0.73, 0.9))[third]
    first = round(rng.uniform(low, high) * frames - length / 2)
    first = min(max(first, 1), frames - 1 - length)
    middle = (first + length / 2) / frames
    return first, TIMES[min(int(middle * 3), 2)]


def story(rng: np.random.Generator, frames: int, kind: str, split: str) -> tuple[Event | None, list] | None:
    """The event of a clip and the objects of each frame, or None when the dice did not fit (roll again)."""
    things = place(rng, int(rng.integers(2, 5)), split)
    if things is None:
        return None
    scenes = [things] * frames
    if kind == "none":
        return None, scenes
    target: Thing | None = things[int(rng.integers(len(things)))]
    rest = tuple(t for t in things if t is not target)
    if kind == "flash":
        extra = place(rng, 1, split, things)
        length = int(rng.integers(1, 3)) if frames >= 16 else 1
        if extra is None or frames < 3:
            return None
        first, when = moment(rng, frames, length)
        scenes[first : first + length] = [(*things, extra[0])] * length
        return Event(kind, first, first + length - 1, when, extra[0]), scenes
    if kind == "move":
        direction = str(rng.choice(DIRECTIONS))
        found = route(rng, things, direction)
        if found is None:
            return None
        start, end = found
        distance = abs(end.x - start.x) + abs(end.y - start.y)
        length = min(round(distance / pick(rng, SPEEDS[split])), max(1, frames // 2))
        first, when = moment(rng, frames, length) if frames > 2 else (1, "middle")
        for i in range(first, frames):
            f = min((i - first + 1) / length, 1.0)
            now = replace(start, x=start.x + f * (end.x - start.x), y=start.y + f * (end.y - start.y))
            scenes[i] = tuple(now if t is start else t for t in things)
        return Event(kind, first, min(first + length, frames) - 1, when, start, direction), scenes
    first, when = moment(rng, frames, 0) if frames > 2 else (1, "middle")
    detail = ""
    if kind == "vanish":
        after = rest
    elif kind == "recolour":
        detail = str(rng.choice([c for c in COLOURS if c not in {t.colour for t in things}]))
        after = tuple(replace(t, colour=detail) if t is target else t for t in things)
    else:
        fresh = place(rng, int(rng.integers(2, 5)), split)
        if fresh is None:
            return None
        after, target = fresh, None
    scenes[first:] = [after] * (frames - first)
    return Event(kind, first, first, when, target, detail), scenes


def facts_of(event: Event | None, scenes: list[tuple[Thing, ...]]) -> list[Fact]:
    """All that can be asked about a clip without ambiguity."""
    first, last = scenes[0], scenes[-1]
    facts = [Fact("count", "", "", COUNTS[len(first) - 2])]
    for t in first:
        others = last if event is not None and event.kind == "cut" else ()
        if event is not None and event.kind == "recolour" and t == event.thing:
            continue
        if t.shape not in {o.shape for o in others}:
            facts.append(Fact("colour", "", t.shape, t.colour))
        if t.colour not in {o.colour for o in others}:
            facts.append(Fact("shape", t.colour, "", t.shape))
    happened = event.kind if event is not None else ""
    if event is not None:
        colour, shape = (event.thing.colour, event.thing.shape) if event.thing is not None else ("", "")
        facts.append(Fact("what", "", "", sentence(event.kind, colour, shape, event.detail)))
        if len(scenes) >= 12:
            facts.append(Fact("when", "", "", event.when))
        if event.kind in ("flash", "vanish"):
            facts.append(Fact(event.kind, "", "", f"{colour} {shape}"))
        elif event.kind in ("move", "recolour"):
            facts.append(Fact(event.kind, colour, shape, event.detail))
    if happened != "cut":
        facts += [Fact("nothing", "", "", "nothing", kind) for kind in ("flash", "vanish") if kind != happened]
    return facts


def render(rng: np.random.Generator, scenes: list[tuple[Thing, ...]], cut: int, split: str) -> np.ndarray:
    """(T, 96, 96, 3) uint8: the pictures of the scenes, with another background from frame `cut` on."""
    shades = {c: np.clip(np.array(v) + rng.uniform(-12, 12, 3), 0, 255).astype(np.float32) for c, v in RGB.items()}
    canvases = [background(rng, split), background(rng, split)]
    codec = rng.random() < 0.6
    grain = rng.uniform(0.5, 4.0)
    pictures = np.empty((len(scenes), SIDE, SIDE, 3), np.uint8)
    painted: dict[tuple, np.ndarray] = {}
    for i, scene in enumerate(scenes):
        key = (scene, i >= cut)
        if key not in painted:
            image = paint(canvases[int(i >= cut)], scene, shades)
            painted[key] = soften(image) if codec else image
        noise = rng.standard_normal((SIDE, SIDE, 3), dtype=np.float32) * grain
        pictures[i] = np.clip(painted[key] + noise, 0, 255)
    return pictures


def make_clip(seed: int, split: str = "train", frames: int = 32, event: str | None = None, fps: float = FPS) -> Clip:
    """The clip of a seed: `event` is one of EVENTS, "none", or None for a random one of EVENTS."""
    if split not in SPLITS:
        raise ValueError(f"split: got {split!r}, expected one of {SPLITS}")
    rng = np.random.default_rng([seed, SPLITS.index(split), frames])
    options = [e for e in EVENTS if not (e == "flash" and frames < 3)]
    kind = (str(rng.choice(options)) if frames > 1 else "none") if event is None else event
    told = None
    while told is None:
        told = story(rng, frames, kind, split)
    happening, scenes = told
    cut = happening.first if happening is not None and happening.kind == "cut" else frames
    pictures = render(rng, scenes, cut, split)
    facts = facts_of(happening, scenes)
    return Clip(pictures, fps, scenes[0], happening, tuple(scenes), facts, [fact.ask(rng) for fact in facts])


def alter(rng: np.random.Generator, scene: tuple[Thing, ...], split: str) -> tuple[Thing, ...]:
    """The scene after a little event: an object comes, goes, moves or turns another colour, or nothing happens."""
    kind = rng.choice(["come", "go", "move", "recolour", "none"])
    i = int(rng.integers(len(scene)))
    rest = scene[:i] + scene[i + 1 :]
    if kind == "come" and len(scene) < 5:
        return (*scene, *(place(rng, 1, split, scene) or ()))
    if kind == "go" and rest:
        return rest
    if kind == "move":
        found = route(rng, scene, str(rng.choice(DIRECTIONS)))
        return tuple(found[1] if t is found[0] else t for t in scene) if found else scene
    if kind == "recolour":
        colour = str(rng.choice([c for c in COLOURS if c not in {t.colour for t in scene}]))
        return (*rest, replace(scene[i], colour=colour))
    return scene


def make_pair(rng: np.random.Generator, split: str = "train") -> list[tuple[np.ndarray, tuple[Thing, ...]]]:
    """Two frames (96, 96, 3) uint8 of a scene with 1 to 5 objects, before and after a little event; and the objects."""
    scene = None
    while scene is None:
        scene = place(rng, int(rng.integers(1, 6)), split)
    shades = {c: np.clip(np.array(v) + rng.uniform(-14, 14, 3), 0, 255).astype(np.float32) for c, v in RGB.items()}
    canvas, codec, grain = background(rng, split), rng.random() < 0.6, rng.uniform(0.5, 5.0)
    pair = []
    for things in (scene, alter(rng, scene, split)):
        image = paint(canvas, things, shades)
        image = soften(image) if codec else image
        noise = rng.standard_normal(image.shape, dtype=np.float32) * grain
        pair.append((np.clip(image + noise, 0, 255).astype(np.uint8), things))
    return pair
