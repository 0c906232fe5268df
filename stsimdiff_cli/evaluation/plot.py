"""The pictures of a bench: accuracy against ratio for every method, and against the values of a sweep."""

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
from .variants import BASELINE

_TITLES = {"all": "All questions", "static": "What is there", "event": "What happens", "time": "When it happens"}
_FIGURES = {"agreement": "Same answer as all tokens", "coverage": "Coverage", "event_recall": "Event recall"}
_WIDTH, _HEIGHT = 6.0, 3.6  # inches a panel


@dataclass(frozen=True)
class Curve:
    """Points (x, percent, low, high) under a name."""

    name: str
    points: list[tuple[float, float, float, float]]


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
    drawn = panels(report)
    columns = min(2, len(drawn))
    rows = -(-len(drawn) // columns)
    foot = 0.75  # inches for the caption
    with picture(path, _WIDTH * columns, _HEIGHT * rows + foot) as figure:
        height = _HEIGHT * rows + foot
        figure.subplots_adjust(
            left=0.55 / (_WIDTH * columns) + 0.01,
            right=0.99,
            top=1 - 0.3 / height,
            bottom=(foot + 0.5) / height,
            wspace=0.14,
            hspace=0.38,
        )
        grid = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes, panel in zip(grid, drawn, strict=False):
            _draw(axes, panel, "% right" if report["blind"] is not None else "%", report)
        for axes in grid[len(drawn) :]:
            axes.set_visible(False)
        figure.text(0.012, 0.1 / height, caption(report, 85 * columns), fontsize=8, color=shades().caption, va="bottom")


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
    ends = []
    for number, each in enumerate(curves):
        middle, low, high = ([point[i] for point in each.points] for i in (1, 2, 3))
        aside = [_aside(panel, places, point[0], number - (len(curves) - 1) / 2, len(curves)) for point in each.points]
        colour = curve(axes, number + 1, aside, middle, low, high, linewidth=1.3, markersize=4)
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
    floor = 10 * (lowest // 10)
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
