"""What the pixels of a rendered clip show."""

from __future__ import annotations

import numpy as np

from stsimdiff_cli.synthetic.clips import Clip
from stsimdiff_cli.synthetic.shapes import RGB, Shape, coverage


def colour_under(clip: Clip, frame: int, shape: Shape) -> str:
    """The name of the colour under a shape's place in a frame, "" for none."""
    inside = coverage(shape) > 0.99
    mean = clip.frames[frame][inside].astype(float).mean(0)
    distance = {name: np.abs(mean - rgb).max() for name, rgb in RGB.items()}
    name = min(distance, key=distance.__getitem__)
    return name if distance[name] < 45 else ""


def shows(clip: Clip, frame: int, shape: Shape) -> bool:
    """Whether a frame shows a shape: its place has its colour."""
    return colour_under(clip, frame, shape) == shape.colour
