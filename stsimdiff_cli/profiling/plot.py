"""Plots a report: time and memory against frames, as in Figure 3 of the paper, and what the time is made of."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from ..machine import short
from ..plotting import curve, name_ends, picture, plain_axes, room_for, shades
from .job import BASELINE, COLD
from .report import legend, short_names

#: Title, unit and key of the savings of each panel.
_PANELS = (
    ("From the video to the answer (cold)", "seconds", "cold"),
    ("From the compressed file (warm)", "seconds", "warm"),
    ("Peak memory", "GB", "peak"),
)


def save_plot(path: Path, report: dict[str, Any]) -> None:
    """Draw the report into a picture file, which is written whole or not at all."""
    rows = [row for row in report["rows"] if row["error"] is None]
    methods = sorted({row["method"]: 0 for row in rows}, key=lambda name: name != BASELINE)
    below = 0.7 + 0.3 * len(methods) + 0.5 if rows else 0.0  # inches for the bars with their title and axis
    high = 4.5 + below
    with picture(path, 12, high) as figure:
        bottom = (1.2 + below) / high
        figure.subplots_adjust(left=0.06, right=0.99, top=1 - 0.45 / high, bottom=bottom, wspace=0.2)
        for panel, axes in zip(_PANELS, figure.subplots(1, len(_PANELS)), strict=True):
            _draw(axes, *panel, rows, methods)
        if rows:
            bars = figure.add_axes((0.14, 1.25 / high, 0.7, 0.3 * len(methods) / high))
            _draw_stages(bars, rows, methods)
        figure.text(0.06, 0.025, caption(report), fontsize=8, color=shades().caption, va="bottom", linespacing=1.4)


def caption(report: dict[str, Any]) -> str:
    """Model, ratio, clip and machine in two or three lines."""
    video, machine = report["video"], report["machine"]
    clip = f"; clip of {video['width']} x {video['height']} pixels, {video['seconds']:.0f} s" if video else ""
    text = (
        f"{report['model']}, {report['dtype'] or 'no run succeeded'}; ratio {report['ratio']:g}; "
        f"{report['questions']} x {report['new_tokens']} tokens generated{clip}. {short(machine)}; "
        f"torch {machine['torch']}, transformers {machine['transformers']}. Points: median of {report['repeats']}, "
        f"bars: minimum and maximum. Percentages: change against {BASELINE}. Loading is not counted. "
        f"Memory: {report['peak_source']}."
    )
    words = " ".join([text, *(f"{line}." for line in legend(report["rows"]))])
    return "\n".join(textwrap.wrap(words, 180, break_on_hyphens=False))


def _draw(axes: Any, title: str, unit: str, saving: str, rows: list[dict[str, Any]], methods: list[str]) -> None:
    """One panel: curves with the names of their methods at the ends, and the savings.

    One method has its savings next to its points. Those of several would overlap, so there each curve has only the
    last one, after its name.
    """
    ends = []
    several, names = len(methods) > 2, short_names(rows)
    for number, method in enumerate(methods):
        points = sorted((row for row in rows if row["method"] == method), key=lambda row: row["frames"])
        frames = [row["frames"] for row in points]
        median, low, high = zip(*(_value(row, saving) for row in points), strict=True)
        colour = curve(axes, number, frames, median, low, high, markersize=5, capsize=2)
        for row, value in zip(points, median, strict=True):
            if row["saved_percent"] is not None and not several:
                _label(axes, (row["frames"], value), row["saved_percent"][saving], colour)
        last = points[-1]["saved_percent"]
        name = names[method]
        if several and last is not None:
            name += f" {_change(last[saving])}"
        ends.append((median[-1], frames[-1], name, colour))
    plain_axes(axes, title, "frames", unit)
    axes.set_xticks(sorted({row["frames"] for row in rows}))
    _set_limits(axes, rows, saving, max((len(name) for *_, name, _ in ends), default=0))
    name_ends(axes, ends)


def stage_bars(rows: list[dict[str, Any]], methods: list[str]) -> dict[str, list[float]]:
    """Median seconds of each stage from the video to the answer, for each method, at the most frames of any."""
    most = max(row["frames"] for row in rows)
    at_most = {row["method"]: row["seconds"] for row in rows if row["frames"] == most}
    return {
        stage: [(at_most.get(method, {}).get(stage) or {"median": 0.0})["median"] for method in methods]
        for stage in COLD
    }


def _draw_stages(axes: Any, rows: list[dict[str, Any]], methods: list[str]) -> None:
    """A bar for each method, made of its stages. A part has its seconds if they fit in; the legend is on the right."""
    bars, names, colours = stage_bars(rows, methods), short_names(rows), shades()
    whole = max(map(sum, zip(*bars.values(), strict=True)))
    plain_axes(axes, f"What the time is made of, at {max(row['frames'] for row in rows)} frames", "seconds", "")
    axes.grid(axis="y", visible=False)
    begin = [0.0] * len(methods)
    for number, (stage, seconds) in enumerate(bars.items()):
        colour = colours.curves[(number + 1) % len(colours.curves)]
        axes.barh(range(len(methods)), seconds, 0.7, begin, color=colour, label=stage)
        for place, (left, value) in enumerate(zip(begin, seconds, strict=True)):
            if value > 0.06 * whole:
                axes.text(
                    left + value / 2, place, f"{value:.2g}", ha="center", va="center", fontsize=8, color="#000000"
                )
        begin = [left + value for left, value in zip(begin, seconds, strict=True)]
    axes.set_yticks(range(len(methods)), [names[method] for method in methods])
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8, handlelength=1)


def _label(axes: Any, point: tuple[float, float], saved: float, colour: str) -> None:
    """The change against the baseline, next to a point and on the side away from the baseline."""
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=2.5, foreground=shades().paper)]
    offset = (0, -14 if saved >= 0 else 8)
    axes.annotate(
        _change(saved), point, offset, textcoords="offset points", ha="center", color=colour, path_effects=halo
    )


def _change(saved: float) -> str:
    """A saving as a change, with a minus for less."""
    return "±0 %" if abs(saved) < 0.5 else f"{-saved:+.0f} %".replace("-", "−")


def _value(row: dict[str, Any], saving: str) -> tuple[float, float, float]:
    """Median, minimum and maximum of what a panel shows."""
    if saving == "peak":
        return (row["peak_bytes"]["all"] / 1e9,) * 3
    spread = row["seconds"][saving]
    return spread["median"], spread["min"], spread["max"]


def _set_limits(axes: Any, rows: list[dict[str, Any]], saving: str, longest: int) -> None:
    """Begin the values at 0, and leave room on the right for names of up to `longest` characters."""
    if not rows:
        return
    frames = [row["frames"] for row in rows]
    span = max(frames) - min(frames) or max(frames)
    room = room_for(longest)
    axes.set_xlim(min(frames) - 0.12 * span, max(frames) + 1.12 * span * room / (1 - room))
    axes.set_ylim(0, 1.1 * max(_value(row, saving)[2] for row in rows))
