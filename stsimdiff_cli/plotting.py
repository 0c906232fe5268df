"""The style of every chart: colours, markers, axes, names at the ends of lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .errors import RequestError
from .storage.atomic import whole_file

FORMATS = (".png", ".svg", ".pdf")
#: The palette of Okabe and Ito, which colour-blind people can tell apart. The first colour is the baseline's.
COLOURS = ("#555555", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "osD^vPX"


@dataclass(frozen=True)
class Shades:
    """The colours of a chart."""

    paper: str
    ink: str  # titles, axes, numbers
    caption: str
    grid: str
    curves: tuple[str, ...]


_LIGHT = Shades("#ffffff", "#000000", "#333333", "#dddddd", COLOURS)
#: The same hues, lighter where they would be hard to see on a dark page.
_DARK = Shades(
    "#16181c",
    "#e8eaed",
    "#b9bec6",
    "#3a3f47",
    ("#b9bec6", "#4ea8e6", "#ff8a4c", "#2fc79a", "#cc79a7", "#e69f00", "#f0e442"),
)


def shades() -> Shades:
    """The colours of the chart that is being drawn: light, or dark for a name like `bench.dark.png`."""
    from matplotlib import rcParams

    return _DARK if rcParams["figure.facecolor"] == _DARK.paper else _LIGHT


def _style(chosen: Shades) -> Any:
    ink = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "axes.titlecolor")
    paper = ("figure.facecolor", "axes.facecolor", "savefig.facecolor")
    return {
        "font.size": 9, "svg.fonttype": "none", **dict.fromkeys(ink, chosen.ink), **dict.fromkeys(paper, chosen.paper),
    }  # fmt: skip


def look(number: int) -> tuple[str, str, str]:
    """Colour, marker and line style of a curve by its number; 0 is the baseline."""
    colours = shades().curves
    style = ("-", "--", ":")[number // len(COLOURS) % 3]
    return colours[number % len(colours)], MARKERS[(number + number // len(COLOURS)) % len(MARKERS)], style


def check_plot(path: Path) -> None:
    """Raise RequestError for a chart that cannot be drawn, before anything is measured."""
    if path.suffix.lower() not in FORMATS:
        raise RequestError(
            f"{path} does not end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}.", "Choose one of these."
        )
    check_installed()


def check_installed() -> None:
    """Raise RequestError if matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        raise RequestError("A picture needs matplotlib, which is not installed.", "pip install 'stsimdiff[plot]'")


@contextmanager
def picture(path: Path, width: float, height: float, few_colours: bool = True) -> Iterator[Any]:
    """A matplotlib figure of `width` x `height` inches, written atomically if the block succeeds.

    The background is dark if the name says so: `bench.dark.png`. With `few_colours` a PNG has 256 colours, which is
    enough for anything but photographs.
    """
    check_plot(path)
    with drawn(width, height, 150, dark=path.stem.lower().endswith(".dark")) as figure:
        yield figure
        with whole_file(path) as temporary:
            figure.savefig(temporary, format=path.suffix.lower().removeprefix("."))
            if few_colours and path.suffix.lower() == ".png":
                _to_palette(temporary)


def _to_palette(path: Path) -> None:
    """Rewrite a PNG with 256 colours: a third of its size, with no visible loss for lines and text."""
    from PIL import Image

    with Image.open(path) as full:
        full.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT).save(path, "png", optimize=True)


@contextmanager
def drawn(width: float, height: float, dpi: float, dark: bool = False) -> Iterator[Any]:
    """A matplotlib figure of `width` x `height` inches in the common style, without a file or a window."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(_style(_DARK if dark else _LIGHT)):
        figure = Figure(figsize=(width, height), dpi=dpi)
        FigureCanvasAgg(figure)
        yield figure


def plain_axes(axes: Any, title: str, x: str, y: str) -> None:
    """Title, labelled axes, horizontal grid lines, no box."""
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(axis="y", color=shades().grid, linewidth=0.6)
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
    """Draw a curve by its number through `middle`, with error bars from `low` to `high`; returns its colour."""
    colour, marker, line = look(number)
    below = [m - a for m, a in zip(middle, low, strict=True)]
    above = [b - m for m, b in zip(middle, high, strict=True)]
    bars = {"yerr": [below, above], "elinewidth": 0.8}
    axes.errorbar(x, middle, color=colour, marker=marker, linestyle=line, **bars, **style)
    return colour


def room_for(longest: int) -> float:
    """The fraction of a panel's width that names of `longest` letters (bold, 9 points) need after the last point."""
    return min(0.5, 0.09 + 0.024 * longest)


def name_ends(axes: Any, ends: list[tuple[float, float, str, str]], left: bool = False) -> None:
    """Write names at the ends of lines (height, x, name, colour), to their right or left, bold unless in grey.

    Names that would overlap are pushed apart: first upwards, then down again from the top of the panel. A thin line
    leads from a name that was pushed to its point. The limits and the place of the panel must be set before.
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
    for (value, x, name, colour), height in zip(ordered, heights, strict=True):
        (_, at), (_, written) = axes.transData.transform([(x, value), (x, height)])
        pushed = (written - at) * 72 / axes.figure.dpi  # points
        far = abs(pushed) > 4
        line = {"arrowstyle": "-", "color": colour, "linewidth": 0.5, "relpos": (int(left), 0.5), "shrinkA": 0}
        text = axes.annotate(
            name,
            (x, value),
            ((-1 if left else 1) * (24 if far else 8), pushed),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            annotation_clip=False,
            arrowprops=line if far else None,
        )
        text.set(color=colour, fontweight="normal" if colour == shades().curves[0] else "bold")
