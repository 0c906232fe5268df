"""The picture of a report about rungs: a panel a ratio, rungs along x, own methods in colour, the others in grey."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...machine import short
from ...plotting import MARKERS, name_ends, picture, plain_axes, shades
from ..variants import BASELINE, REFERENCE
from .tables import ALL

Json = dict[str, Any]
_LEAST_WIDTH, _COLUMN, _HEIGHT = 6.5, 0.78, 3.3  # inches: a picture, a rung, a panel
_TOP, _LEFT, _BETWEEN = 0.35, 0.6, 0.7  # inches
_FOOT, _LINE = 0.45, 0.13  # inches under the last panel, and for each line of the caption
_LETTER = 0.085  # inches a letter of the names at the right
_NAMED = 3  # rivals that are named: the best over all, and those that methods are compared with
_FAINT = "#8a8f98"  # the names of columns, on light and dark paper
#: Controls that are drawn as columns, from the tallest to the shortest, and how they are named.
_COLUMNS = {"single frame": "one frame", "no video": "no video"}


@dataclass(frozen=True)
class Line:
    """What a method gives on every rung: percent, low, high. `own` is of this project; rivals may be named or not."""

    name: str
    points: list[tuple[float, float, float]]
    own: bool
    named: bool = True


@dataclass(frozen=True)
class RungPanel:
    """The lines of a ratio, and what all tokens and some controls give, which is the same in all panels."""

    title: str
    lines: list[Line]
    whole: list[float]
    controls: dict[str, list[float]]


def rung_panels(report: Json) -> list[RungPanel]:
    """A panel for every ratio below 1; one of ratio 1 if there is no other."""
    columns = report["columns"]
    rivals = [row for row in report["rows"] if row["method"] != BASELINE]
    ratios = sorted({row["ratio"] for row in rivals})
    vanilla = next(row for row in report["rows"] if row["method"] == BASELINE)
    controls = {
        label: [report["controls"][name][column]["all"]["percent"] for column in columns]
        for name, label in _COLUMNS.items()
    }
    panels = []
    for ratio in [ratio for ratio in ratios if ratio < 1] or ratios:
        lines = _lines(report, [row for row in rivals if row["ratio"] == ratio])
        panels.append(RungPanel(f"{100 * ratio:g} % of tokens kept", lines, _middle(vanilla, columns), controls))
    return panels or [RungPanel("All tokens", [], _middle(vanilla, columns), controls)]


def _lines(report: Json, rows: list[Json]) -> list[Line]:
    """Lines of methods in the order of the report."""
    first = report["columns"][0]
    others = [row for row in rows if not row["method"].startswith(REFERENCE)]
    best = sorted(others, key=lambda row: -row["rungs"][first]["accuracy"]["all"]["percent"])[:_NAMED]
    named = {row["method"] for row in best} | {*report["compared"]}
    lines = []
    for row in rows:
        estimates = [row["rungs"][column]["accuracy"]["all"] for column in report["columns"]]
        points = [(each["percent"], each["low"], each["high"]) for each in estimates]
        own = row["method"].startswith(REFERENCE)
        lines.append(Line(report["labels"][row["method"]], points, own, own or row["method"] in named))
    return lines


def _middle(row: Json, columns: list[str]) -> list[float]:
    return [row["rungs"][column]["accuracy"]["all"]["percent"] for column in columns]


def save_rung_plot(path: Path, report: Json) -> None:
    """Draw the report into a picture file, at once or not at all."""
    panels = rung_panels(report)
    named = [line.name for panel in panels for line in panel.lines if line.named]
    names = 0.35 + _LETTER * max(map(len, ["all tokens", *named]))
    width = max(_LEAST_WIDTH, _LEFT + _COLUMN * len(report["columns"]) + names)
    caption = _caption(report, int(width * 13.5))
    foot = _FOOT + _LINE * (1 + caption.count("\n"))
    height = _TOP + len(panels) * _HEIGHT + (len(panels) - 1) * _BETWEEN + foot
    with picture(path, width, height) as figure:
        figure.subplots_adjust(
            left=_LEFT / width,
            right=1 - names / width,
            top=1 - _TOP / height,
            bottom=foot / height,
            hspace=_BETWEEN / _HEIGHT,
        )
        grid = figure.subplots(len(panels), 1, squeeze=False).flatten()
        for axes, panel in zip(grid, panels, strict=True):
            _draw(axes, panel, report["columns"])
        figure.text(_LEFT / width, 0.1 / height, caption, fontsize=7.5, color=shades().caption)


def _draw(axes: Any, panel: RungPanel, columns: list[str]) -> None:
    """From the back: what little of the video gives, rivals, all tokens, own methods."""
    colours, last = shades(), len(columns) - 1
    plain_axes(axes, panel.title, "", "% of questions right")
    places = list(range(len(columns)))
    axes.set_xlim(-0.5, last + 0.5)
    axes.set_ylim(0, 103)
    axes.set_xticks(places, columns)
    axes.tick_params(axis="x", length=0)
    axes.spines["bottom"].set_color(colours.grid)
    if ALL in columns:
        axes.get_xticklabels()[0].set_fontweight("bold")
        axes.axvline(0.5, color=colours.grid, linewidth=0.8)
    ends: list[tuple[float, float, str, str]] = [(panel.whole[-1], last + 0.5, "all tokens", colours.ink)]
    for (name, heights), strength in zip(panel.controls.items(), (0.4, 1.0), strict=True):
        axes.bar(places, heights, width=0.8, color=colours.grid, alpha=strength, linewidth=0, zorder=1)
        ends.append((heights[-1], last + 0.5, name, _FAINT))
    axes.hlines(panel.whole, [p - 0.4 for p in places], [p + 0.4 for p in places], color=colours.ink, linewidth=1.2)
    own = [line for line in panel.lines if line.own]
    rivals = sorted((line for line in panel.lines if not line.own), key=lambda line: line.named)
    for number, line in enumerate(rivals):
        style: dict[str, Any] = {"color": colours.curves[0], "alpha": 0.3, "marker": ".", "linewidth": 0.6}
        if line.named:
            style |= {"alpha": 0.8, "marker": MARKERS[1 + number % (len(MARKERS) - 1)], "linewidth": 0.9}
        _curve(axes, line, columns, 0.0, markersize=4, zorder=2, **style)
        ends += [(line.points[-1][0], last + 0.5, line.name, colours.curves[0])] * line.named
    for number, line in enumerate(own):
        colour = colours.curves[1 + number % (len(colours.curves) - 1)]
        aside = 0.1 * (number - (len(own) - 1) / 2)
        _curve(axes, line, columns, aside, color=colour, marker="o", markersize=7, linewidth=2.2, zorder=4)
        ends.append((line.points[-1][0], last + 0.5, line.name, colour))
    name_ends(axes, ends)


def _curve(axes: Any, line: Line, columns: list[str], aside: float, linewidth: float, **style: Any) -> None:
    """Points with their intervals; those of rungs are joined, so that the eye can follow a method."""
    middle = [point[0] for point in line.points]
    bars = [[m - low for m, low, _ in line.points], [high - m for m, _, high in line.points]]
    x = [place + aside for place in range(len(columns))]
    axes.errorbar(x, middle, yerr=bars, linestyle="", elinewidth=0.8 * linewidth, **style)
    first = int(ALL in columns)
    plain = {name: value for name, value in style.items() if name in ("color", "alpha", "zorder")}
    axes.plot(x[first:], middle[first:], linewidth=linewidth, **plain)


def _caption(report: Json, width: int) -> str:
    text = (
        f"{report['model']}; {report['seeds']} clips of {report['frames']} frames on each rung, {report['asked']} "
        f"questions, seed {report['seed']}. Bars: {report['interval']}. Dashes: all tokens. Columns: all tokens of the "
        f"middle frame, and the questions without the video. Grey: other methods, the best of them with their names. "
        f"{short(report['machine'])}; torch {report['machine']['torch']}, transformers "
        f"{report['machine']['transformers']}."
    )
    return "\n".join(textwrap.wrap(text, width, break_on_hyphens=False))
