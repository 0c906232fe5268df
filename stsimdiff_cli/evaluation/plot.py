"""The pictures of a bench: accuracy against ratio for every method, and against the values of a sweep.

Own methods are in colour, others in grey with their names at their points. The intervals of all of them stand in a
panel of their own for each ratio, where none hides another.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..machine import short
from ..methods.spec import shown
from ..plotting import curve, name_ends, picture, plain_axes, room_for, shades
from .rungs.plot import save_rung_plot
from .rungs.tables import RUNGS
from .variants import BASELINE, REFERENCE

_TITLES = {"all": "All questions", "static": "What is there", "event": "What happens", "time": "When it happens"}
_FIGURES = {"agreement": "Same answer as all tokens", "coverage": "Coverage", "event_recall": "Event recall"}
_WIDTH, _HEIGHT = 6.0, 3.6  # inches a panel
_FORESTS, _ROW, _ABOVE, _BELOW = 4, 0.19, 0.45, 0.55  # forests side by side; inches a method, above and below them


@dataclass(frozen=True)
class Curve:
    """Points (x, percent, low, high) under a name."""

    name: str
    points: list[tuple[float, float, float, float]]

    @property
    def own(self) -> bool:
        """Whether the method is of this project."""
        return self.name.startswith(REFERENCE)


@dataclass(frozen=True)
class Forest:
    """What every method gives at one ratio, the best first: name, percent, low, high."""

    ratio: float
    rows: list[tuple[str, float, float, float]]


@dataclass(frozen=True)
class Panel:
    """Curves over one axis. group: the questions they are about, None where answers are not known.

    marks are the texts of places on the axis, where the values are not numbers.
    """

    title: str
    x: str
    curves: list[Curve]
    group: str | None
    logarithmic: bool = False
    marks: list[str] | None = None


def panels(report: dict[str, Any]) -> list[Panel]:
    """What there is to show: a panel for each parameter of a sweep; else one for each group of questions."""
    labelled = report["blind"] is not None
    if report["sweep"]:
        return [_sweep(report, name, values, labelled) for name, values in report["sweep"].items()]
    if report["ablation"] and len(report["methods"]) <= 2:
        names = report["ablation"]
    else:
        names = {shown(name): name for name in report["methods"] if name != BASELINE}
    wanted = list(_TITLES) if labelled else list(_FIGURES)
    made = []
    for key in wanted:
        curves = [_curve(report, label, name, _reader(key, labelled)) for label, name in names.items()]
        title = (_TITLES | _FIGURES)[key]
        made.append(Panel(title, "ratio of tokens kept", curves, key if labelled else None, logarithmic=True))
    return made


def forests(report: dict[str, Any]) -> list[Forest]:
    """A forest for each ratio below 1, of the methods of the first panel; none for a sweep."""
    if report["sweep"]:
        return []
    made = []
    points = [(each.name, point) for each in panels(report)[0].curves for point in each.points]
    for ratio in sorted({x for _, (x, *_) in points if x < 1}):
        rows = [(name, middle, low, high) for name, (x, middle, low, high) in points if x == ratio]
        made.append(Forest(ratio, sorted(rows, key=lambda row: -row[1])))
    return made


def _reader(key: str, labelled: bool) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return (lambda row: row["accuracy"][key]) if labelled else (lambda row: row[key])


def _point(x: float, estimate: dict[str, Any]) -> tuple[float, float, float, float]:
    return x, estimate["percent"], estimate["low"], estimate["high"]


def _curve(report: dict[str, Any], label: str, name: str, read: Callable[[dict[str, Any]], dict[str, Any]]) -> Curve:
    rows = sorted((row for row in report["rows"] if row["method"] == name), key=lambda row: row["ratio"])
    points = [(row["ratio"], read(row)) for row in rows]
    return Curve(label, [_point(x, estimate) for x, estimate in points if estimate["percent"] is not None])


def _sweep(report: dict[str, Any], parameter: str, values: dict[str, str], labelled: bool) -> Panel:
    """One curve a ratio."""
    read = _reader("all" if labelled else "agreement", labelled)
    try:
        places, marks = [float(value) for value in values], None
    except ValueError:  # words
        places, marks = [float(i) for i in range(len(values))], list(values)
    ratios = sorted({row["ratio"] for row in report["rows"] if row["method"] != BASELINE})
    curves = []
    for ratio in ratios:
        by_name = {row["method"]: row for row in report["rows"] if row["ratio"] == ratio}
        estimates = [(x, read(by_name[name])) for x, name in zip(places, values.values(), strict=True)]
        curves.append(Curve(f"ratio {ratio:g}", [_point(x, e) for x, e in estimates if e["percent"] is not None]))
    return Panel(f"st-simdiff, {parameter}", parameter, curves, "all" if labelled else None, marks=marks)


def save_plot(path: Path, report: dict[str, Any]) -> None:
    """Draw the report into a picture file, at once or not at all."""
    if report["format"] == RUNGS:
        save_rung_plot(path, report)
        return
    drawn, below = panels(report), forests(report)
    columns = min(2, len(drawn))
    rows = -(-len(drawn) // columns)
    foot = 0.75  # inches for the caption
    wood = _ABOVE + _BELOW + _ROW * max((len(forest.rows) for forest in below), default=0)  # inches a row of forests
    ground = foot + wood * -(-len(below) // _FORESTS)
    width, height = _WIDTH * columns, _HEIGHT * rows + ground
    unit = "% right" if report["blind"] is not None else "%"
    with picture(path, width, height) as figure:
        figure.subplots_adjust(
            left=0.55 / width + 0.01,
            right=0.99,
            top=1 - 0.3 / height,
            bottom=(ground + 0.5) / height,
            wspace=0.14,
            hspace=0.38,
        )
        grid = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes, panel in zip(grid, drawn, strict=False):
            _draw(axes, panel, unit, report)
        for axes in grid[len(drawn) :]:
            axes.set_visible(False)
        names = 0.1 + 0.075 * max((len(name) for forest in below for name, *_ in forest.rows), default=0)  # inches
        each = width / min(_FORESTS, max(1, len(below)))
        for number, forest in enumerate(below):
            x = number % _FORESTS * each + names
            y = ground - wood * (number // _FORESTS + 1) + _BELOW
            place = (x / width, y / height, (each - names - 0.2) / width, _ROW * len(forest.rows) / height)
            _draw_forest(figure.add_axes(place), forest, f"{drawn[0].title}, ratio {forest.ratio:g}", unit, report)
        figure.text(0.012, 0.1 / height, caption(report, 85 * columns), fontsize=8, color=shades().caption, va="bottom")


def _draw_forest(axes: Any, forest: Forest, title: str, unit: str, report: dict[str, Any]) -> None:
    """A row for each method with its interval, own ones bold; a dashed line where all tokens are."""
    colours = shades()
    plain_axes(axes, title, unit, "")
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=colours.grid, linewidth=0.6)
    places = range(len(forest.rows))
    for place, (name, middle, low, high) in zip(places, forest.rows, strict=True):
        own = name.startswith(REFERENCE)
        colour = colours.curves[1 if own else 0]
        bars = [[middle - low], [high - middle]]
        axes.errorbar(middle, place, xerr=bars, color=colour, marker="o", markersize=5 if own else 3.5,
                      linewidth=2 if own else 1)  # fmt: skip
    if report["blind"] is not None:
        row = next(row for row in report["rows"] if row["method"] == BASELINE)
        axes.axvline(row["accuracy"]["all"]["percent"], color=colours.curves[0], linewidth=0.8, linestyle=(0, (5, 3)))
    axes.set_yticks(list(places), [name for name, *_ in forest.rows])
    axes.set_ylim(len(forest.rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=5)
    for label in axes.get_yticklabels():
        if label.get_text().startswith(REFERENCE):
            label.set(fontweight="bold", color=colours.curves[1])


def caption(report: dict[str, Any], width: int = 170) -> str:
    """Model, clips, intervals and machine, in lines of `width` letters."""
    machine = report["machine"]
    labelled = report["blind"] is not None
    text = (
        f"{report['model']}; {report['clips']} {'clips' if labelled else 'videos'} of {report['frames']} frames, "
        f"{report['asked']} questions, seed {report['seed']}; the same for all. Bars: {report['interval']}. "
        f"{'Dashes: all tokens. ' if labelled else ''}"
        f"{short(machine)}; torch {machine['torch']}, transformers {machine['transformers']}."
    )
    return "\n".join(textwrap.wrap(text, width, break_on_hyphens=False))


def _draw(axes: Any, panel: Panel, unit: str, report: dict[str, Any]) -> None:
    curves = [curve for curve in panel.curves if curve.points]
    places = sorted({x for curve in curves for x, *_ in curve.points})
    told_apart = len({each.own for each in curves}) < 2  # all of them own, or none: then each has a colour
    order = sorted(curves, key=lambda each: each.own)  # own ones last, on top
    ends, coloured = [], 0
    for number, each in enumerate(order):
        middle, low, high = ([point[i] for point in each.points] for i in (1, 2, 3))
        if told_apart:
            aside = [
                _aside(panel, places, point[0], number - (len(curves) - 1) / 2, len(curves)) for point in each.points
            ]
            colour = curve(axes, number + 1, aside, middle, low, high, linewidth=1.3, markersize=4)
        else:  # intervals are in the forests
            aside = [point[0] for point in each.points]
            coloured += each.own
            colour = shades().curves[coloured % len(shades().curves)]
            style = (
                {"linewidth": 2.2, "markersize": 6} if each.own else {"linewidth": 0.8, "markersize": 3, "alpha": 0.7}
            )
            axes.plot(aside, middle, color=colour, marker="o", **style)
        ends.append((middle[0], aside[0], each.name, colour))
    plain_axes(axes, panel.title, panel.x, unit)
    _limits(axes, panel, places)
    _whole(axes, panel, places, report)
    begin = min((x for _, x, _, _ in ends), default=0.0)
    name_ends(axes, [(height, begin, name, colour) for height, _, name, colour in ends], left=True)


def _aside(panel: Panel, places: list[float], x: float, turn: float, count: int) -> float:
    """A little left or right of x, so that the bars of several curves stand side by side."""
    near = min((abs(_scaled(panel, a) - _scaled(panel, b)) for a, b in pairwise(places)), default=0.1)
    shift = turn * min(0.06, 0.5 / count) * near
    return x * math.exp(shift) if panel.logarithmic else x + shift


def _scaled(panel: Panel, x: float) -> float:
    return math.log(x) if panel.logarithmic else x


def _limits(axes: Any, panel: Panel, places: list[float]) -> None:
    """Percent up to a little over 100, and room on the left for the names, where curves lie furthest apart."""
    lowest = min((point[2] for curve in panel.curves for point in curve.points), default=0.0)
    floor = min(90, 10 * (lowest // 10))
    axes.set_ylim(floor - 0.03 * (100 - floor), 100 + 0.03 * (100 - floor))
    axes.set_yticks([tick for tick in axes.get_yticks() if floor <= tick <= 100])
    if not places:
        return
    room = room_for(max(len(curve.name) for curve in panel.curves))
    first, last = _scaled(panel, places[0]), _scaled(panel, places[-1])
    span = (last - first) or 1.0
    ends = (first - 0.1 * span - span * room / (1 - room), last + 0.1 * span)
    if panel.logarithmic:
        axes.set_xscale("log")
        axes.set_xlim(*map(math.exp, ends))
        axes.set_xticks(places, [f"{place:g}" for place in places])
        axes.set_xticks([], minor=True)
        return
    axes.set_xlim(*ends)
    axes.set_xticks(places if panel.marks is None else range(len(panel.marks)), panel.marks)


def _whole(axes: Any, panel: Panel, places: list[float], report: dict[str, Any]) -> None:
    """A dashed line where all tokens are."""
    if panel.group is None or not places:
        return
    row = next(row for row in report["rows"] if row["method"] == BASELINE)
    height = row["accuracy"][panel.group]["percent"]
    axes.hlines(height, places[0], places[-1], color=shades().curves[0], linewidth=0.8, linestyle=(0, (5, 3)))
