"""Draws the README's chart, docs/pictures/why.png, from benchmarks/reports/methods.json.

    python docs/why.py

Left: answers of the embedded model that are right, against the ratio of tokens kept. Right: how much less time
answering takes with those tokens. Both are of the bench described in docs/bench.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stsimdiff_cli.methods.spec import shown
from stsimdiff_cli.plotting import curve, name_ends, picture, plain_axes, shades

HERE = Path(__file__).parent
REPORT = HERE.parent / "benchmarks" / "reports" / "methods.json"
#: Ours, the two that are ahead of it at 0.1, and one of those that rank by attention alone.
SHOWN = ("st-simdiff", "evs", "random", "fastv")


def rows_of(report: dict[str, Any], method: str) -> list[dict[str, Any]]:
    """The rows of a method, by falling ratio."""
    return sorted((row for row in report["rows"] if row["method"] == method), key=lambda row: row["ratio"])


def draw(path: Path, report: dict[str, Any]) -> None:
    """Write the picture."""
    vanilla = rows_of(report, "vanilla")[0]
    with picture(path, 9.6, 3.5) as figure:
        figure.subplots_adjust(left=0.06, right=0.985, top=0.9, bottom=0.24, wspace=0.2)
        kept, saved = figure.subplots(1, 2)
        accuracy(kept, report, vanilla)
        seconds(saved, report, vanilla)
        caption = (
            f"{report['asked']} questions about {report['clips']} held-out rendered clips, the embedded model, one CPU "
            "thread; bars: 95 % intervals over clips.\nSeconds: prefill and all questions of a clip, median, "
            "from the compressed file. Not real video: see the limits."
        )
        figure.text(0.06, 0.02, caption, fontsize=7.5, color=shades().caption, va="bottom")


def accuracy(axes: Any, report: dict[str, Any], vanilla: dict[str, Any]) -> None:
    """Right answers against ratio."""
    plain_axes(axes, "Right answers, %", "ratio of tokens kept", "")
    ends = []
    for number, method in enumerate(SHOWN, start=1):
        rows = rows_of(report, method)
        points = [row["accuracy"]["all"] for row in rows]
        middle, low, high = ([point[key] for point in points] for key in ("percent", "low", "high"))
        colour = curve(axes, number, [row["ratio"] for row in rows], middle, low, high, markersize=4)
        ends.append((middle[0], rows[0]["ratio"], shown(method), colour))
    axes.axhline(vanilla["accuracy"]["all"]["percent"], color=shades().curves[0], linewidth=0.8, linestyle=":")
    axes.set_xlim(-0.2, 1.03)
    axes.set_ylim(50, 104)
    ticks(axes, report)
    name_ends(axes, ends, left=True)
    axes.annotate("all tokens", (1, 100.5), ha="right", va="bottom", color=shades().caption)


def seconds(axes: Any, report: dict[str, Any], vanilla: dict[str, Any]) -> None:
    """Seconds saved against ratio."""
    plain_axes(axes, "Answering time saved, %", "ratio of tokens kept", "")
    whole = vanilla["seconds"]["answer"]
    parts = [(100 * (1 - row["seconds"]["answer"] / whole), row) for row in rows_of(report, "st-simdiff")]
    for part, row in parts:
        axes.bar(row["ratio"], part, width=0.06, color=shades().curves[1])
        text = f"{part:.0f} %\n{row['seconds']['answer']:.2f} s"
        axes.annotate(text, (row["ratio"], part), (0, 3), textcoords="offset points", ha="center", va="bottom")
    axes.set_xlim(0, 1.1)
    axes.set_ylim(0, 1.3 * max(part for part, _ in parts))
    ticks(axes, report)


def ticks(axes: Any, report: dict[str, Any]) -> None:
    """One for each ratio measured."""
    ratios = sorted({row["ratio"] for row in report["rows"]})
    axes.set_xticks(ratios, [f"{ratio:g}" for ratio in ratios])


def main() -> None:
    """Write both pictures, for light and for dark pages."""
    report = json.loads(REPORT.read_text())
    for name in ("why.png", "why.dark.png"):
        draw(HERE / "pictures" / name, report)


if __name__ == "__main__":
    main()
