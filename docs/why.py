"""Draws the README's chart, docs/pictures/why.png, from benchmarks/reports/rungs.json.

    python docs/why.py

Left: answers of the embedded model that are right on every rung, with a tenth of the tokens. Right: how much less time
answering takes with those tokens. Both are of the bench described in docs/bench.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stsimdiff_cli.methods.spec import shown
from stsimdiff_cli.plotting import curve, name_ends, picture, plain_axes, shades

HERE = Path(__file__).parent
REPORT = HERE.parent / "benchmarks" / "reports" / "rungs.json"
#: The default, the paper's form, one that looks along time, and chance.
SHOWN = ("st-simdiff+", "st-simdiff", "evs", "random")
RATIO = 0.1


def rows_of(report: dict[str, Any], method: str) -> list[dict[str, Any]]:
    """The rows of a method, by falling ratio."""
    return sorted((row for row in report["rows"] if row["method"] == method), key=lambda row: row["ratio"])


def draw(path: Path, report: dict[str, Any]) -> None:
    """Write the picture."""
    with picture(path, 9.6, 3.7) as figure:
        figure.subplots_adjust(left=0.055, right=0.985, top=0.91, bottom=0.27, wspace=0.16)
        right, saved = figure.subplots(1, 2, width_ratios=(2.3, 1))
        accuracy(right, report)
        seconds(saved, report)
        caption = (
            f"{report['asked']} questions about {report['clips']} held-out rendered clips, the embedded model, one CPU "
            "thread; bars: 95 % intervals over seeds; dashes: all tokens.\nSeconds: prefill and all questions of a "
            "clip, median, from the compressed file. Not real video: see the limits."
        )
        figure.text(0.055, 0.02, caption, fontsize=7.5, color=shades().caption, va="bottom")


def accuracy(axes: Any, report: dict[str, Any]) -> None:
    """Right answers on every rung, at RATIO."""
    plain_axes(axes, f"Right answers with {100 * RATIO:.0f} % of the tokens, %", "rung", "")
    rungs = report["rungs"]
    ends = []
    for number, method in enumerate(SHOWN, start=1):
        row = next(row for row in rows_of(report, method) if row["ratio"] == RATIO)
        points = [row["rungs"][rung]["accuracy"]["all"] for rung in rungs]
        middle, low, high = ([point[key] for point in points] for key in ("percent", "low", "high"))
        x = [place + 0.08 * (number - 2.5) for place in range(len(rungs))]
        colour = curve(axes, number, x, middle, low, high, markersize=4)
        ends.append((middle[-1], x[-1], shown(method), colour))
    vanilla = rows_of(report, "vanilla")[0]["rungs"]
    for place, rung in enumerate(rungs):
        whole = vanilla[rung]["accuracy"]["all"]["percent"]
        axes.plot([place - 0.4, place + 0.4], [whole, whole], color=shades().ink, linewidth=1.2)
    axes.set_xlim(-0.6, len(rungs) + 1.4)
    axes.set_ylim(50, 102)
    axes.set_xticks(range(len(rungs)), rungs, fontsize=6.8)
    name_ends(axes, ends)


def seconds(axes: Any, report: dict[str, Any]) -> None:
    """Seconds saved against ratio."""
    plain_axes(axes, "Answering time saved, %", "ratio of tokens kept", "")
    whole = rows_of(report, "vanilla")[0]["seconds"]["answer"]
    rows = rows_of(report, SHOWN[0])
    parts = [100 * (1 - row["seconds"]["answer"] / whole) for row in rows]
    axes.bar(range(len(rows)), parts, width=0.5, color=shades().curves[1])
    for place, (part, row) in enumerate(zip(parts, rows, strict=True)):
        text = f"{part:.0f} %\n{row['seconds']['answer']:.2f} s"
        axes.annotate(text, (place, part), (0, 3), textcoords="offset points", ha="center", va="bottom")
    axes.set_xlim(-0.6, len(rows) - 0.4)
    axes.set_ylim(0, 1.3 * max(parts))
    axes.set_xticks(range(len(rows)), [f"{row['ratio']:g}" for row in rows])


def main() -> None:
    """Write both pictures, for light and for dark pages."""
    report = json.loads(REPORT.read_text())
    for name in ("why.png", "why.dark.png"):
        draw(HERE / "pictures" / name, report)


if __name__ == "__main__":
    main()
