"""The style of every picture: colours, markers, axes, names at the ends of lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .errors import RequestError
from .files import whole_file

FORMATS = (".png", ".svg", ".pdf")
#: Okabe and Ito's palette, distinct to colour-blind readers too; the first is the baseline's.
COLOURS = ("#555555", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "osD^vPX"


def look(number: int) -> tuple[str, str, str]:
    """Colour, marker and line style of the curve with this number; 0 is the baseline."""
    style = ("-", "--", ":")[number // len(COLOURS) % 3]
    return COLOURS[number % len(COLOURS)], MARKERS[(number + number // len(COLOURS)) % len(MARKERS)], style


def check_plot(path: Path) -> None:
    """Refuse a picture that could not be drawn, before anything is measured."""
    if path.suffix.lower() not in FORMATS:
        raise RequestError(f"{path} is no name of a picture.", f"Use a name that ends in {', '.join(FORMATS)}.")
    if find_spec("matplotlib") is None:
        raise RequestError("A picture needs matplotlib, which is not installed.", "pip install 'stsimdiff[plot]'")


@contextmanager
def picture(path: Path, width: float, height: float) -> Iterator[Any]:
    """A matplotlib figure of so many inches; when the block ends well it is written, at once or not at all."""
    check_plot(path)
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"font.size": 9, "svg.fonttype": "none"}):
        figure = Figure(figsize=(width, height), dpi=150)
        yield figure
        with whole_file(path) as temporary:
            figure.savefig(temporary, format=path.suffix.lower().removeprefix("."))


def plain_axes(axes: Any, title: str, x: str, y: str) -> None:
    """Title, axes with units, and nothing that distracts."""
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def curve(
    axes: Any,
    number: int,
    x: Sequence[float],
    middle: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    **style: Any,
) -> str:
    """The curve with this number through the middles, with bars from low to high; returns its colour."""
    colour, marker, line = look(number)
    below = [m - a for m, a in zip(middle, low, strict=True)]
    above = [b - m for m, b in zip(middle, high, strict=True)]
    bars = {"yerr": [below, above], "elinewidth": 0.8}
    axes.errorbar(x, middle, color=colour, marker=marker, linestyle=line, **bars, **style)
    return colour


def room_for(longest: int) -> float:
    """The part of a panel's width that names of `longest` letters need behind the last point (bold, 9 points)."""
    return min(0.5, 0.04 + 0.024 * longest)


def name_ends(axes: Any, ends: list[tuple[float, float, str, str]], left: bool = False) -> None:
    """Names at the ends of lines (height, x, name, colour), to the right or left of them.

    Pushed apart where lines end together, first upwards, then down again from the top of the panel.
    """
    low, high = axes.get_ylim()
    gap = 0.055 * (high - low)
    ordered = sorted(ends)
    heights: list[float] = []
    for value, *_ in ordered:
        heights.append(max(value, heights[-1] + gap) if heights else value)
    ceiling = high - gap / 2
    for i in reversed(range(len(heights))):
        heights[i] = min(heights[i], ceiling)
        ceiling = heights[i] - gap
    for (_, x, name, colour), height in zip(ordered, heights, strict=True):
        text = axes.annotate(
            name,
            (x, height),
            (-8 if left else 8, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            annotation_clip=False,
        )
        text.set(color=colour, fontweight="bold")
