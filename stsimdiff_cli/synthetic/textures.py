"""Textures, computed or from photographs: muted backgrounds, and the patterns of lightness on bodies."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from .world import GROUNDS

#: The photograph that lies on bodies of a surface.
PRINTS = {"gravel": "gravel", "fur": "chelsea"}


@cache
def photographs() -> dict[str, np.ndarray]:
    """Photographs (200, 200) float32 by name: lightness of mean 0 and deviation 1, between -2 and 2.

    photographs.md says where they come from.
    """
    with np.load(Path(__file__).with_name("photographs.npz")) as file:
        grey = {name: file[name].astype(np.float32) for name in file.files}
    return {name: np.clip((g - g.mean()) / g.std(), -2, 2) for name, g in grey.items()}


def sample(picture: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A picture (h, w) at places (y, x) in pixels, interpolated; outside of it, its mirror image."""
    parts = []
    for at, size in ((y, picture.shape[0]), (x, picture.shape[1])):
        at = (size - 1) - np.abs(at % (2 * (size - 1)) - (size - 1))
        low = np.minimum(at.astype(int), size - 2)
        parts.append((low, (at - low).astype(np.float32)))
    (i, f), (j, g) = parts
    upper = picture[i, j] * (1 - g) + picture[i, j + 1] * g
    lower = picture[i + 1, j] * (1 - g) + picture[i + 1, j + 1] * g
    return upper * (1 - f) + lower * f


def clouds(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """(size, size) float32: random heights on a coarse grid, interpolated."""
    coarse = rng.standard_normal((cells + 1, cells + 1)).astype(np.float32)
    ruler = np.linspace(0, cells - 0.001, size)
    i, f = ruler.astype(int), (ruler % 1).astype(np.float32)
    f = f * f * (3 - 2 * f)
    rows = coarse[i] * (1 - f)[:, None] + coarse[i + 1] * f[:, None]
    return rows[:, i] * (1 - f) + rows[:, i + 1] * f


def ground(rng: np.random.Generator, split: str, size: int) -> np.ndarray:
    """(size, size, 3) float32: a muted texture of the split."""
    kind = str(rng.choice(GROUNDS[split]))
    angle, scale, phase = rng.uniform(0, np.pi), rng.uniform(14, 44), rng.uniform(0, 2 * np.pi)
    yy, xx = np.mgrid[0:size, 0:size].astype(np.float32)
    u = xx * np.float32(np.cos(angle)) + yy * np.float32(np.sin(angle))
    v = yy * np.float32(np.cos(angle)) - xx * np.float32(np.sin(angle))
    a, b = 2 * np.pi * u / scale + phase, 2 * np.pi * v / scale
    if kind == "gradient":
        t = (u - u.min()) / (u.max() - u.min()) * 2 - 1
    elif kind == "clouds":
        t = clouds(rng, size, size // 16) + 0.5 * clouds(rng, size, size // 7)
    elif kind == "stripes":
        t = np.sin(a)
    elif kind == "checks":
        t = np.tanh(3 * np.sin(a) * np.sin(b))
    elif kind == "rings":
        t = np.sin(2 * np.pi * np.hypot(xx - size * rng.random(), yy - size * rng.random()) / scale + phase)
    elif kind == "bricks":
        row = np.floor(v / (scale / 2))
        across = np.abs((u / scale + 0.5 * row) % 1 - 0.5)
        t = np.where((across > 0.44) | (np.abs((v / (scale / 2)) % 1 - 0.5) > 0.4), -1.0, 0.5)
    elif kind in photographs():
        picture = photographs()[kind]
        zoom, corner = rng.uniform(0.6, 1.4), rng.uniform(0, 200, 2)
        t = 0.8 * sample(picture, yy / zoom + corner[0], (xx if rng.random() < 0.5 else -xx) / zoom + corner[1])
    elif kind == "waves":
        t = np.sin(a + 1.5 * np.sin(b))
    elif kind == "spots":
        t = 2 * np.exp(-3 * (np.sin(a / 2) ** 2 + np.sin(b / 2) ** 2)) - 0.6
    else:  # weave
        t = np.sign(np.sin(a) * np.sin(b)) * np.where(np.sin(a) * np.sin(b) > 0, np.sin(3 * a), np.sin(3 * b))
    base = rng.uniform(75, 170) + rng.uniform(-20, 20, 3)
    tint = rng.uniform(6, 26) * (1 + rng.uniform(-0.4, 0.4, 3))
    return (base + tint * t[..., None]).astype(np.float32)


def pattern(surface: str, x: np.ndarray, y: np.ndarray, phase: float) -> np.ndarray | float:
    """How much lighter (up to 1) or darker (down to -1) a surface is at (x, y), in units of the radius."""
    if surface == "ball":
        return 1.2 - 1.6 * np.hypot(x + 0.35, y + 0.35)
    if surface == "stripes":
        return np.sin(7 * (x * np.cos(phase) + y * np.sin(phase)))
    if surface == "grain":
        return np.sin(17 * x + phase) * np.sin(13 * y + 2 * phase)
    if surface == "dots":
        return 2.0 * (np.sin(6 * x + phase) * np.sin(6 * y + phase) > 0.3) - 1.0
    if surface in PRINTS:
        return (
            sample(photographs()[PRINTS[surface]], 30 * (y + 4 * np.sin(phase) + 4), 30 * (x + 4 * np.cos(phase) + 4))
            / 2
        )
    if surface == "slope":
        return np.clip(x * np.cos(phase) + y * np.sin(phase), -1, 1)
    return 0.0
