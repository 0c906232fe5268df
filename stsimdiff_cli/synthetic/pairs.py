"""Pairs of frames before and after a small change, from which the vision tower of `tiny` learns what changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .questions import COLOURS, DIRECTIONS
from .scenes import choose_move, place_shapes
from .shapes import Scene, draw_background, draw_palette, draw_scene, subsample_chroma


def render_pair(rng: np.random.Generator, split: str = "train") -> list[tuple[np.ndarray, Scene]]:
    """Two frames (96, 96, 3) uint8, before and after a small change, with their scenes. The first has 1 to 5 shapes."""
    scene = None
    while scene is None:
        scene = place_shapes(rng, int(rng.integers(1, 6)), split)
    palette = draw_palette(rng, 14)
    background, subsampled, grain = draw_background(rng, split), rng.random() < 0.6, rng.uniform(0.5, 5.0)
    pair = []
    for shown in (scene, change_scene(rng, scene, split)):
        picture = draw_scene(background, shown, palette)
        picture = subsample_chroma(picture) if subsampled else picture
        noise = rng.standard_normal(picture.shape, dtype=np.float32) * grain
        pair.append((np.clip(picture + noise, 0, 255).astype(np.uint8), shown))
    return pair


def change_scene(rng: np.random.Generator, scene: Scene, split: str) -> Scene:
    """The scene after a small change: a shape comes, goes, moves or changes colour, or nothing happens."""
    kind = rng.choice(["come", "go", "move", "recolour", "none"])
    i = int(rng.integers(len(scene)))
    rest = scene[:i] + scene[i + 1 :]
    if kind == "come" and len(scene) < 5:
        return (*scene, *(place_shapes(rng, 1, split, scene) or ()))
    if kind == "go" and rest:
        return rest
    if kind == "move":
        move = choose_move(rng, scene, str(rng.choice(DIRECTIONS)))
        return tuple(move[1] if shape is move[0] else shape for shape in scene) if move else scene
    if kind == "recolour":
        colour = str(rng.choice([c for c in COLOURS if c not in {shape.colour for shape in scene}]))
        return (*rest, replace(scene[i], colour=colour))
    return scene
