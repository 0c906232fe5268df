"""Draws objects on textured backgrounds, and says which object lies under which token. numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SIDE = 96  # pixels; the model sees 6 x 6 tokens of 16 x 16 pixels
TEXTURES = {"train": ("gradient", "clouds", "stripes", "checks"), "heldout": ("waves", "spots")}
RGB = {
    "red": (215, 40, 45),
    "orange": (245, 140, 30),
    "yellow": (240, 225, 60),
    "green": (45, 165, 70),
    "blue": (45, 85, 220),
    "purple": (150, 55, 190),
    "white": (245, 245, 245),
    "black": (18, 18, 18),
}
_YY, _XX = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) + 0.5


@dataclass(frozen=True)
class Thing:
    """An object: colour and shape by name, centre and radius in pixels."""

    colour: str
    shape: str
    x: float
    y: float
    r: float


def coverage(thing: Thing) -> np.ndarray:
    """(96, 96) float32 in [0, 1]: how much of each pixel the object covers."""
    x, y = (_XX - thing.x) / thing.r, (_YY - thing.y) / thing.r
    if thing.shape == "circle":
        inside = 1 - np.hypot(x, y)
    elif thing.shape == "ring":
        inside = 0.25 - np.abs(np.hypot(x, y) - 0.75)
    elif thing.shape == "square":
        inside = 0.86 - np.maximum(np.abs(x), np.abs(y))
    elif thing.shape == "cross":
        a, b = np.abs(x), np.abs(y)
        inside = np.maximum(np.minimum(1 - a, 0.32 - b), np.minimum(0.32 - a, 1 - b))
    elif thing.shape == "triangle":
        inside = np.minimum((0.75 - y), 0.894 * (0.5 * (y + 1) - np.abs(x) * 0.98))
    else:  # a star of five rays: distance to the edge of its sector
        angle = np.abs((np.arctan2(x, -y) + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)
        radius = np.hypot(x, y)
        inside = 0.53 * (1.05 - radius * np.cos(angle) - 1.38 * radius * np.sin(angle))
    return np.clip(inside * thing.r + 0.5, 0, 1).astype(np.float32)


def background(rng: np.random.Generator, split: str) -> np.ndarray:
    """(96, 96, 3) float32: a muted texture of the split."""
    kind = str(rng.choice(TEXTURES[split]))
    angle, scale, phase = rng.uniform(0, np.pi), rng.uniform(14, 40), rng.uniform(0, 2 * np.pi)
    u = _XX * np.cos(angle) + _YY * np.sin(angle)
    v = _YY * np.cos(angle) - _XX * np.sin(angle)
    if kind == "gradient":
        t = (u - u.min()) / (u.max() - u.min()) * 2 - 1
    elif kind == "clouds":
        coarse = rng.standard_normal((8, 8)).astype(np.float32)
        ruler = np.linspace(0, 6.999, SIDE)
        i, f = ruler.astype(int), (ruler % 1).astype(np.float32)
        rows = coarse[i] * (1 - f)[:, None] + coarse[i + 1] * f[:, None]
        t = rows[:, i] * (1 - f) + rows[:, i + 1] * f
    elif kind == "stripes":
        t = np.sin(2 * np.pi * u / scale + phase)
    elif kind == "checks":
        t = np.tanh(3 * np.sin(2 * np.pi * u / scale + phase) * np.sin(2 * np.pi * v / scale))
    elif kind == "waves":
        t = np.sin(2 * np.pi * u / scale + phase + 1.5 * np.sin(2 * np.pi * v / scale))
    else:  # spots
        t = 2 * np.exp(-3 * (np.sin(np.pi * u / scale) ** 2 + np.sin(np.pi * v / scale + phase) ** 2)) - 0.6
    base = rng.uniform(80, 165) + rng.uniform(-18, 18, 3)
    tint = rng.uniform(6, 24) * (1 + rng.uniform(-0.4, 0.4, 3))
    return (base + tint * t[..., None]).astype(np.float32)


def paint(canvas: np.ndarray, things: tuple[Thing, ...], shades: dict[str, np.ndarray]) -> np.ndarray:
    """(96, 96, 3) float32: the objects on a background. shades holds the RGB of each colour."""
    out = canvas.copy()
    for thing in things:
        alpha = coverage(thing)[..., None]
        out += alpha * (shades[thing.colour] - out)
    return out


def soften(image: np.ndarray) -> np.ndarray:
    """What a video codec does to colour: chroma averaged over 2 x 2 pixels and blurred, luma kept."""
    luma = image @ np.array([0.299, 0.587, 0.114], np.float32)
    chroma = image - luma[..., None]
    small = chroma.reshape(SIDE // 2, 2, SIDE // 2, 2, 3).mean((1, 3))
    wide = np.pad(small, ((1, 1), (1, 1), (0, 0)), "edge")
    small = (wide[1:-1, 1:-1] * 2 + wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]) / 6
    return luma[..., None] + small.repeat(2, 0).repeat(2, 1)


def token_labels(scene: tuple[Thing, ...]) -> tuple[np.ndarray, np.ndarray]:
    """owner (6, 6) int: index of the object that covers a token most, -1 background, -2 undecided; share (6, 6)."""
    if not scene:
        return np.full((6, 6), -1), np.zeros((6, 6), np.float32)
    shares = np.stack([coverage(t).reshape(6, 16, 6, 16).mean((1, 3)) for t in scene])
    best = shares.max(0)
    owner = np.where(best > 0.12, shares.argmax(0), np.where(best < 0.015, -1, -2))
    return owner, best
