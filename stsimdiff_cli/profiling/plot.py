"""Plots a report: time and memory against frames, one line for each method, as in Figure 3 of the paper."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from ..machine import short
from ..plotting import curve, name_ends, picture, plain_axes, room_for, shades
from .job import BASELINE
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
    with picture(path, 12, 4.5) as figure:
        figure.subplots_adjust(left=0.06, right=0.99, top=0.9, bottom=0.27, wspace=0.2)
        for panel, axes in zip(_PANELS, figure.subplots(1, len(_PANELS)), strict=True):
            _draw(axes, *panel, rows, methods)
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
