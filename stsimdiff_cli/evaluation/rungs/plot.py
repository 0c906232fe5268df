"""The picture of a report about rungs: a panel a ratio, rungs along x, own methods in colour, the others in grey."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...machine import short
from ...plotting import MARKERS, name_ends, picture, plain_axes, shades
from ..variants import BASELINE, REFERENCE

Json = dict[str, Any]
_LEAST_WIDTH, _COLUMN, _HEIGHT = 6.5, 0.72, 3.3  # inches: a picture, a rung, a panel
_TOP, _FOOT, _LEFT, _BETWEEN = 0.35, 1.1, 0.6, 0.75  # inches
_NAMES = 0.085  # inches a letter of the names at the right


@dataclass(frozen=True)
class Line:
    """What a method gives on every rung: percent, low, high."""

    name: str
    points: list[tuple[float, float, float]]
    own: bool


@dataclass(frozen=True)
class RungPanel:
    """The lines of a ratio; those of all tokens and of the questions alone are in all panels."""

    title: str
    lines: list[Line]
    whole: list[float]
    blind: list[float]


def rung_panels(report: Json) -> list[RungPanel]:
    """A panel for every ratio below 1; one of ratio 1 if there is no other."""
    columns = report["columns"]
    rivals = [row for row in report["rows"] if row["method"] != BASELINE]
    ratios = sorted({row["ratio"] for row in rivals})
    vanilla = next(row for row in report["rows"] if row["method"] == BASELINE)
    whole = [vanilla["rungs"][column]["accuracy"]["all"]["percent"] for column in columns]
    blind = [report["controls"]["no video"][column]["all"]["percent"] for column in columns]
    panels = []
    for ratio in [ratio for ratio in ratios if ratio < 1] or ratios or [1.0]:
        rows = [row for row in rivals if row["ratio"] == ratio] or [vanilla]
        lines = [_line(report, row) for row in rows]
        panels.append(RungPanel(f"{100 * ratio:g} % of tokens kept", lines, whole, blind))
    return panels


def _line(report: Json, row: Json) -> Line:
    estimates = [row["rungs"][column]["accuracy"]["all"] for column in report["columns"]]
    points = [(each["percent"], each["low"], each["high"]) for each in estimates]
    return Line(report["labels"][row["method"]], points, row["method"].startswith(REFERENCE))


def save_rung_plot(path: Path, report: Json) -> None:
    """Draw the report into a picture file, at once or not at all."""
    panels = rung_panels(report)
    longest = max(len(line.name) for panel in panels for line in panel.lines)
    names = 0.35 + _NAMES * max(longest, len("all tokens"))
    width = max(_LEAST_WIDTH, _LEFT + _COLUMN * len(report["columns"]) + names)
    height = _TOP + len(panels) * _HEIGHT + (len(panels) - 1) * _BETWEEN + _FOOT
    with picture(path, width, height) as figure:
        figure.subplots_adjust(
            left=_LEFT / width,
            right=1 - names / width,
            top=1 - _TOP / height,
            bottom=_FOOT / height,
            hspace=_BETWEEN / _HEIGHT,
        )
        grid = figure.subplots(len(panels), 1, squeeze=False, sharey=True).flatten()
        for axes, panel in zip(grid, panels, strict=True):
            _draw(axes, panel, report["columns"])
        figure.text(
            _LEFT / width, 0.1 / height, _caption(report, int(width * 15)), fontsize=7.5, color=shades().caption
        )


def _draw(axes: Any, panel: RungPanel, columns: list[str]) -> None:
    """Bottom to top: what the questions alone give, other methods, all tokens, own methods."""
    colours = shades()
    plain_axes(axes, panel.title, "", "% of questions right")
    places = list(range(len(columns)))
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(0, 103)
    axes.set_xticks(places, columns)
    axes.tick_params(axis="x", length=0)
    if len(columns) > 1:
        axes.get_xticklabels()[0].set_fontweight("bold")  # all rungs
        axes.axvspan(-0.5, 0.5, color=colours.grid, alpha=0.35, linewidth=0)
    axes.bar(places, panel.blind, width=0.86, color=colours.grid, alpha=0.75, linewidth=0, zorder=1)
    ends: list[tuple[float, float, str, str]] = []
    others = [line for line in panel.lines if not line.own]
    own = [line for line in panel.lines if line.own]
    for number, line in enumerate(others):
        style = {"color": colours.curves[0], "alpha": 0.55, "elinewidth": 0.7, "linewidth": 0.8, "markersize": 3.5}
        _curve(axes, line, places, 0.0, marker=MARKERS[number % len(MARKERS)], zorder=2, **style)
        ends.append((line.points[-1][0], places[-1], line.name, colours.curves[0]))
    axes.hlines(panel.whole, [p - 0.43 for p in places], [p + 0.43 for p in places], color=colours.ink, linewidth=1.1)
    ends.append((panel.whole[-1], places[-1] + 0.35, "all tokens", colours.ink))
    for number, line in enumerate(own):
        colour = colours.curves[1 + number % (len(colours.curves) - 1)]
        aside = 0.09 * (number - (len(own) - 1) / 2)
        style = {"color": colour, "elinewidth": 1.6, "linewidth": 2.0, "markersize": 7}
        _curve(axes, line, places, aside, marker="o", zorder=4, **style)
        ends.append((line.points[-1][0], places[-1], line.name, colour))
    name_ends(axes, [(height, len(columns) - 0.5, name, colour) for height, _, name, colour in ends])


def _curve(axes: Any, line: Line, places: list[int], aside: float, **style: Any) -> None:
    """Points with their intervals, joined so that the eye can follow a method."""
    middle = [point[0] for point in line.points]
    bars = [[m - low for m, low, _ in line.points], [high - m for m, _, high in line.points]]
    axes.errorbar([place + aside for place in places], middle, yerr=bars, **style)


def _caption(report: Json, width: int) -> str:
    text = (
        f"{report['model']}; {report['seeds']} clips of {report['frames']} frames on each rung, {report['asked']} "
        f"questions, seed {report['seed']}. Bars: {report['interval']}. Black: all tokens; grey columns: the questions "
        f"without the video. {short(report['machine'])}; torch {report['machine']['torch']}, transformers "
        f"{report['machine']['transformers']}."
    )
    return "\n".join(textwrap.wrap(text, width, break_on_hyphens=False))
