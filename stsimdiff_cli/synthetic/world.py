"""What there is: colours, shapes, bodies, and what train and held-out clips have apart."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

SIDE = 112  # pixels; a model with tokens of 16 x 16 pixels sees 7 x 7
MARGIN = 12  # pixels at each edge without asked-for bodies, so that a moving camera loses none of them
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black", "pink", "cyan")
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "heart", "moon")
DIRECTIONS = ("left", "right", "up", "down")
TIMES = ("start", "middle", "end")  # thirds of a clip
SPLITS = ("train", "heldout")
RGB = {
    "red": (215, 40, 45),
    "orange": (245, 140, 30),
    "yellow": (240, 225, 60),
    "green": (45, 165, 70),
    "blue": (45, 85, 220),
    "purple": (140, 50, 185),
    "white": (245, 245, 245),
    "black": (18, 18, 18),
    "pink": (250, 150, 195),
    "cyan": (75, 215, 220),
    "grey": (120, 120, 120),  # of covers only
}
# What train and held-out clips have apart, next to their random streams.
RADII = {"train": ((8.0, 9.6), (10.7, 12.5)), "heldout": ((9.8, 10.5),)}  # pixels
SPEEDS = {"train": ((1.6, 2.4), (3.0, 4.5)), "heldout": ((2.5, 2.9),)}  # pixels a frame, in clips of 16 frames or more
PHOTOGRAPHS = {"train": ("brick", "camera", "coffee", "gravel", "rocket"), "heldout": ("astronaut", "chelsea", "grass")}
GROUNDS = {
    "train": ("gradient", "clouds", "stripes", "checks", "rings", "bricks", *PHOTOGRAPHS["train"]),
    "heldout": ("waves", "spots", "weave", *PHOTOGRAPHS["heldout"]),
}
SURFACES = {"train": ("flat", "ball", "stripes", "grain", "gravel"), "heldout": ("dots", "slope", "fur")}


@dataclass(frozen=True)
class Body:
    """An object: colour and shape by name, centre and radius in pixels, turn in radians, pattern of its surface.

    `opacity` is below 1 while it fades in or out; while it turns to another colour, `mix` is the share of `turning`.
    """

    colour: str
    shape: str
    x: float
    y: float
    r: float
    turn: float = 0.0
    surface: str = "flat"
    phase: float = 0.0
    opacity: float = 1.0
    turning: str = ""
    mix: float = 0.0

    @property
    def name(self) -> str:
        """Colour and shape, as answers have them."""
        return f"{self.colour} {self.shape}"

    def at(self, x: float, y: float) -> Body:
        """The same body elsewhere."""
        return replace(self, x=float(x), y=float(y))

    def far_from(self, other: Body, gap: float = 3.0) -> bool:
        """Whether at least `gap` pixels lie between the circles around two bodies."""
        return float(np.hypot(self.x - other.x, self.y - other.y)) > self.r + other.r + gap


def pick(rng: np.random.Generator, bands: tuple[tuple[float, float], ...]) -> float:
    """A number from one of the bands."""
    low, high = bands[int(rng.integers(len(bands)))]
    return float(rng.uniform(low, high))


def make_body(rng: np.random.Generator, colour: str, shape: str, split: str, scale: float = 1.0) -> Body:
    """A body in the middle of nowhere, with the size, turn and surface of a split."""
    surface = SURFACES[split][int(rng.integers(len(SURFACES[split])))]
    turn, phase = rng.uniform(-0.3, 0.3), rng.uniform(0, 2 * np.pi)
    return Body(colour, shape, 0.0, 0.0, scale * pick(rng, RADII[split]), float(turn), surface, float(phase))


def put(rng: np.random.Generator, body: Body, others: list[Body], margin: float = MARGIN) -> Body | None:
    """The body at a random free place, or None if 40 trials found none."""
    low, high = margin + body.r, SIDE - margin - body.r
    for _ in range(40):
        placed = body.at(*rng.uniform(low, high, 2))
        if all(placed.far_from(other) for other in others):
            return placed
    return None
