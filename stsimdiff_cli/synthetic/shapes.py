"""Draws shapes on textured backgrounds, and tells which shape lies under which token."""

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
class Shape:
    """A coloured shape in a picture: colour and name as in questions.py, centre and radius in pixels."""

    colour: str
    name: str
    x: float
    y: float
    radius: float


#: The shapes of one frame; later ones are drawn over earlier ones.
Scene = tuple[Shape, ...]


def coverage(shape: Shape) -> np.ndarray:
    """(96, 96) float32 in [0, 1]: how much of each pixel the shape covers."""
    x, y = (_XX - shape.x) / shape.radius, (_YY - shape.y) / shape.radius
    if shape.name == "circle":
        inside = 1 - np.hypot(x, y)
    elif shape.name == "ring":
        inside = 0.25 - np.abs(np.hypot(x, y) - 0.75)
    elif shape.name == "square":
        inside = 0.86 - np.maximum(np.abs(x), np.abs(y))
    elif shape.name == "cross":
        a, b = np.abs(x), np.abs(y)
        inside = np.maximum(np.minimum(1 - a, 0.32 - b), np.minimum(0.32 - a, 1 - b))
    elif shape.name == "triangle":
        inside = np.minimum((0.75 - y), 0.894 * (0.5 * (y + 1) - np.abs(x) * 0.98))
    else:  # a five-pointed star: distance to the edge of its sector
        angle = np.abs((np.arctan2(x, -y) + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)
        radius = np.hypot(x, y)
        inside = 0.53 * (1.05 - radius * np.cos(angle) - 1.38 * radius * np.sin(angle))
    return np.clip(inside * shape.radius + 0.5, 0, 1).astype(np.float32)


def draw_background(rng: np.random.Generator, split: str) -> np.ndarray:
    """(96, 96, 3) float32: a muted texture of the split."""
    texture = str(rng.choice(TEXTURES[split]))
    angle, scale, phase = rng.uniform(0, np.pi), rng.uniform(14, 40), rng.uniform(0, 2 * np.pi)
    u = _XX * np.cos(angle) + _YY * np.sin(angle)
    v = _YY * np.cos(angle) - _XX * np.sin(angle)
    if texture == "gradient":
        t = (u - u.min()) / (u.max() - u.min()) * 2 - 1
    elif texture == "clouds":
        coarse = rng.standard_normal((8, 8)).astype(np.float32)
        ruler = np.linspace(0, 6.999, SIDE)
        i, f = ruler.astype(int), (ruler % 1).astype(np.float32)
        rows = coarse[i] * (1 - f)[:, None] + coarse[i + 1] * f[:, None]
        t = rows[:, i] * (1 - f) + rows[:, i + 1] * f
    elif texture == "stripes":
        t = np.sin(2 * np.pi * u / scale + phase)
    elif texture == "checks":
        t = np.tanh(3 * np.sin(2 * np.pi * u / scale + phase) * np.sin(2 * np.pi * v / scale))
    elif texture == "waves":
        t = np.sin(2 * np.pi * u / scale + phase + 1.5 * np.sin(2 * np.pi * v / scale))
    else:  # spots
        t = 2 * np.exp(-3 * (np.sin(np.pi * u / scale) ** 2 + np.sin(np.pi * v / scale + phase) ** 2)) - 0.6
    base = rng.uniform(80, 165) + rng.uniform(-18, 18, 3)
    tint = rng.uniform(6, 24) * (1 + rng.uniform(-0.4, 0.4, 3))
    return (base + tint * t[..., None]).astype(np.float32)


def draw_palette(rng: np.random.Generator, spread: float) -> dict[str, np.ndarray]:
    """The RGB of every colour in one clip: up to `spread` levels away from RGB."""
    return {
        name: np.clip(np.array(rgb) + rng.uniform(-spread, spread, 3), 0, 255).astype(np.float32)
        for name, rgb in RGB.items()
    }


def draw_scene(background: np.ndarray, scene: Scene, palette: dict[str, np.ndarray]) -> np.ndarray:
    """(96, 96, 3) float32: the shapes of a scene on a background."""
    picture = background.copy()
    for shape in scene:
        alpha = coverage(shape)[..., None]
        picture += alpha * (palette[shape.colour] - picture)
    return picture


def subsample_chroma(picture: np.ndarray) -> np.ndarray:
    """What a video codec does to colour: chroma averaged over 2 x 2 pixels and blurred, luma kept."""
    luma = picture @ np.array([0.299, 0.587, 0.114], np.float32)
    chroma = picture - luma[..., None]
    small = chroma.reshape(SIDE // 2, 2, SIDE // 2, 2, 3).mean((1, 3))
    wide = np.pad(small, ((1, 1), (1, 1), (0, 0)), "edge")
    small = (wide[1:-1, 1:-1] * 2 + wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]) / 6
    return luma[..., None] + small.repeat(2, 0).repeat(2, 1)


def token_labels(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Which shape lies under each of the 6 x 6 tokens.

    Returns owner (6, 6) int, the index of the shape that covers most of a token, -1 for background and -2 where that
    is undecided; and share (6, 6), how much of the token that shape covers.
    """
    if not scene:
        return np.full((6, 6), -1), np.zeros((6, 6), np.float32)
    shares = np.stack([coverage(shape).reshape(6, 16, 6, 16).mean((1, 3)) for shape in scene])
    best = shares.max(0)
    owner = np.where(best > 0.12, shares.argmax(0), np.where(best < 0.015, -1, -2))
    return owner, best
