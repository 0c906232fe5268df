"""The pixels of a script seen by a camera."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .codec import Codec, soften
from .rungs import View
from .script import Scene, Script
from .textures import ground, pattern
from .world import RGB, SIDE, Body

PAD = 40  # pixels of a background beyond each edge of the picture


@dataclass(frozen=True)
class Look:
    """How the clips of a seed look in every rung: shades of the colours, two backgrounds and a second layer, grain."""

    shades: dict[str, np.ndarray]
    grounds: tuple[np.ndarray, np.ndarray]
    layer: np.ndarray
    soft: bool
    grain: float


def make_look(rng: np.random.Generator, split: str, cut: bool = True, moving: bool = True) -> Look:
    """Draws a look; without a cut its second background is the first one, as is the layer where nothing moves."""
    shades = {c: np.clip(np.array(v) + rng.uniform(-12, 12, 3), 0, 255).astype(np.float32) for c, v in RGB.items()}
    size = SIDE + 2 * PAD
    streams = rng.spawn(3)
    first = ground(streams[0], split, size)
    second = ground(streams[1], split, size) if cut else first
    layer = ground(streams[2], split, size) if moving else first
    return Look(shades, (first, second), layer, bool(rng.random() < 0.6), float(rng.uniform(0.5, 4.0)))


def inside(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance to the edge of a shape of radius 1 (about; positive inside)."""
    a, b = np.abs(x), np.abs(y)
    if shape == "circle":
        return 1 - np.hypot(x, y)
    if shape == "ring":
        return 0.25 - np.abs(np.hypot(x, y) - 0.75)
    if shape == "square":
        return 0.86 - np.maximum(a, b)
    if shape == "cross":
        return np.maximum(np.minimum(1 - a, 0.32 - b), np.minimum(0.32 - a, 1 - b))
    if shape == "triangle":
        return np.minimum(0.75 - y, 0.894 * (0.5 * (y + 1) - a * 0.98))
    if shape == "star":  # five rays: distance to the edge of the nearest sector
        angle = np.abs((np.arctan2(x, -y) + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)
        radius = np.hypot(x, y)
        return 0.53 * (1.05 - radius * np.cos(angle) - 1.38 * radius * np.sin(angle))
    if shape == "heart":
        lobes = 0.53 - np.hypot(a - 0.46, y + 0.34)
        return np.maximum(lobes, np.minimum(0.7 * (0.98 - a * 1.02 - y), 0.4 + np.minimum(y + 0.45, 0.6)))
    if shape == "moon":
        return np.minimum(1 - np.hypot(x, y), np.hypot(x - 0.55, y) - 0.75)
    if shape == "box":
        return 1 - np.maximum(a, b)
    return 1 - a  # a bar from top to bottom


def stamp(body: Body) -> tuple[slice, slice, np.ndarray, np.ndarray, np.ndarray]:
    """Rows and columns that a body may touch, its coverage (h, w) in [0, 1], and the coordinates there in radii."""
    reach = body.r * 1.15 + 1.5
    top, bottom = (0, SIDE) if body.shape == "bar" else (int(body.y - reach), int(body.y + reach) + 2)
    rows = slice(min(max(top, 0), SIDE), min(max(bottom, 0), SIDE))
    cols = slice(min(max(int(body.x - reach), 0), SIDE), min(max(int(body.x + reach) + 2, 0), SIDE))
    x = (np.arange(cols.start, cols.stop, dtype=np.float32) + np.float32(0.5 - body.x)) / np.float32(body.r)
    y = (np.arange(rows.start, rows.stop, dtype=np.float32) + np.float32(0.5 - body.y)) / np.float32(body.r)
    c, s = np.float32(np.cos(body.turn)), np.float32(np.sin(body.turn))
    x, y = c * x[None] + s * y[:, None], c * y[:, None] - s * x[None]
    return rows, cols, np.clip(inside(body.shape, x, y) * body.r + 0.5, 0, 1), x, y


def coverage(body: Body) -> np.ndarray:
    """(112, 112) float32 in [0, 1]: how much of each pixel the body covers."""
    whole = np.zeros((SIDE, SIDE), np.float32)
    rows, cols, alpha, _, _ = stamp(body)
    whole[rows, cols] = alpha * body.opacity
    return whole


def paint(canvas: np.ndarray, bodies: Scene, shades: dict[str, np.ndarray]) -> np.ndarray:
    """(112, 112, 3) float32: the bodies on a canvas, later ones over earlier ones."""
    out = canvas.copy()
    for body in bodies:
        rows, cols, alpha, x, y = stamp(body)
        shade = shades[body.colour]
        if body.mix:
            shade = shade + body.mix * (shades[body.turning] - shade)
        light = np.asarray(pattern(body.surface, x, y, body.phase), np.float32)[..., None]
        area = out[rows, cols]
        area += (alpha * body.opacity)[..., None] * (shade * (1 + 0.16 * light) + 7 * light - area)
    return out


def window(canvas: np.ndarray, dx: float, dy: float, zoom: float, fold: bool = False) -> np.ndarray:
    """(112, 112, 3): the part of a background that the camera sees, interpolated; fold mirrors it at its edges."""
    if not (dx or dy) and zoom == 1:
        return canvas[PAD : PAD + SIDE, PAD : PAD + SIDE]
    half, last = SIDE / 2, canvas.shape[0] - 1
    parts = []
    for offset in (dy, dx):
        at = (np.arange(SIDE) + 0.5 - half - offset) / zoom + half - 0.5 + PAD
        at = last - np.abs((at % (2 * last)) - last) if fold else np.clip(at, 0, last)
        low = np.minimum(at.astype(int), last - 1)
        parts.append((low, (at - low).astype(np.float32)))
    (iy, fy), (ix, fx) = parts
    rows = canvas[iy] * (1 - fy)[:, None, None] + canvas[iy + 1] * fy[:, None, None]
    return rows[:, ix] * (1 - fx)[:, None] + rows[:, ix + 1] * fx[:, None]


def visible(script: Script, view: View, frame: int) -> Scene:
    """All bodies of a frame where the camera sees them, from back to front."""
    behind = view.behind[int(frame >= script.cut)]
    return tuple(view.look(b, frame) for b in (*behind, *script.scenes[frame], *view.front[frame]))


def pictures(script: Script, view: View, look: Look, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """The frames (112, 112, 3) uint8, one after the other."""
    moving = bool(view.drift.any())
    codec = Codec(view.step) if view.step else None
    known: tuple = ()
    image = np.empty(0, np.float32)
    for frame in range(script.frames):
        bodies = visible(script, view, frame)
        late = frame >= script.cut
        key = (bodies, late, *view.camera[frame], *view.drift[frame])
        if key != known:
            known = key
            dx, dy, zoom = (float(v) for v in view.camera[frame])
            canvas = window(look.grounds[late], dx, dy, zoom)
            if moving:
                u, v = (float(d) for d in view.drift[frame])
                canvas = 0.5 * window(look.grounds[late], u, v, 1.0, True) + 0.5 * window(
                    look.layer, -v, 0.7 * u, 1.0, True
                )
            image = paint(canvas, bodies, look.shades)
            image = soften(image) if look.soft else image
        sigma = np.float32(np.hypot(look.grain, view.sigma))
        out = image * np.float32(view.gain[frame]) + sigma * rng.standard_normal(image.shape, dtype=np.float32)
        yield np.clip(codec(out) if codec is not None else out, 0, 255).astype(np.uint8)
