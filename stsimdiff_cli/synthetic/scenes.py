"""Places and moves shapes at random without overlaps, and renders the frames of a clip. Seeded.

Clips of the split `heldout` differ from those of `train` in their random streams, in the background textures (TEXTURES
in shapes.py), in the sizes of shapes (RADII) and in the speed of moving ones (SPEEDS). The splits are fixed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .questions import COLOURS, SHAPES
from .shapes import SIDE, Scene, Shape, draw_background, draw_palette, draw_scene, subsample_chroma

SPLITS = ("train", "heldout")
RADII = {"train": ((9.0, 11.2), (12.2, 14.5)), "heldout": ((11.3, 12.1),)}  # pixels
SPEEDS = {"train": ((1.6, 2.4), (3.0, 4.5)), "heldout": ((2.5, 2.9),)}  # pixels a frame, in clips of 16 frames or more


def check_split(split: str) -> None:
    """ValueError unless `split` is one of SPLITS."""
    if split not in SPLITS:
        raise ValueError(f"split: got {split!r}, expected one of {SPLITS}")


def uniform_in(rng: np.random.Generator, ranges: tuple[tuple[float, float], ...]) -> float:
    """A random number from one of the ranges."""
    low, high = ranges[int(rng.integers(len(ranges)))]
    return float(rng.uniform(low, high))


def place_shapes(rng: np.random.Generator, count: int, split: str, taken: Scene = ()) -> Scene | None:
    """`count` new shapes that touch none of `taken` or each other and repeat no colour or name; None if none fit."""
    colours = [c for c in rng.permutation(COLOURS) if c not in {shape.colour for shape in taken}]
    names = [n for n in rng.permutation(SHAPES) if n not in {shape.name for shape in taken}]
    placed: list[Shape] = []
    for i in range(count):
        for _ in range(30):
            radius = uniform_in(rng, RADII[split])
            x, y = rng.uniform(radius + 1, SIDE - radius - 1, 2)
            shape = Shape(str(colours[i]), str(names[i]), float(x), float(y), radius)
            if all(np.hypot(x - o.x, y - o.y) > radius + o.radius + 3 for o in (*taken, *placed)):
                placed.append(shape)
                break
        else:
            return None
    return tuple(placed)


def choose_move(rng: np.random.Generator, scene: Scene, direction: str) -> tuple[Shape, Shape] | None:
    """A shape, and the same shape 20 to 44 pixels further in the direction; None if every way is blocked."""
    dx, dy = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}[direction]
    distance = rng.uniform(20, 44)
    for i in rng.permutation(len(scene)):
        start = scene[i]
        end = replace(start, x=start.x + dx * distance, y=start.y + dy * distance)
        if not (start.radius < end.x < SIDE - start.radius and start.radius < end.y < SIDE - start.radius):
            continue
        steps = np.linspace(0, distance, 12)
        others = [other for j, other in enumerate(scene) if j != i]
        xs, ys = start.x + dx * steps, start.y + dy * steps
        if all((np.hypot(xs - o.x, ys - o.y) > start.radius + o.radius + 2).all() for o in others):
            return start, end
    return None


def distance_between(start: Shape, end: Shape) -> float:
    """Pixels between two places of a shape that moves along one axis."""
    return abs(end.x - start.x) + abs(end.y - start.y)


def part_way(start: Shape, end: Shape, fraction: float) -> Shape:
    """The shape on its way from start (0) to end (1)."""
    return replace(start, x=start.x + fraction * (end.x - start.x), y=start.y + fraction * (end.y - start.y))


def replaced(scene: Scene, old: Shape, new: Shape) -> Scene:
    """The scene with `new` in the place of `old`, which is found by identity."""
    return tuple(new if shape is old else shape for shape in scene)


def without(scene: Scene, removed: Shape) -> Scene:
    """The scene without one shape, which is found by identity."""
    return tuple(shape for shape in scene if shape is not removed)


def render_scenes(rng: np.random.Generator, scenes: Sequence[Scene], cut: int, split: str) -> np.ndarray:
    """(T, 96, 96, 3) uint8: a picture of each scene, with another background from frame `cut` on."""
    palette = draw_palette(rng, 12)
    backgrounds = [draw_background(rng, split), draw_background(rng, split)]
    subsampled = rng.random() < 0.6
    grain = rng.uniform(0.5, 4.0)
    frames = np.empty((len(scenes), SIDE, SIDE, 3), np.uint8)
    drawn: dict[tuple[Scene, bool], np.ndarray] = {}
    for i, scene in enumerate(scenes):
        key = (scene, i >= cut)
        if key not in drawn:
            picture = draw_scene(backgrounds[int(i >= cut)], scene, palette)
            drawn[key] = subsample_chroma(picture) if subsampled else picture
        noise = rng.standard_normal((SIDE, SIDE, 3), dtype=np.float32) * grain
        frames[i] = np.clip(drawn[key] + noise, 0, 255)
    return frames
