"""A report of benchmarks/when.py as a table."""

from __future__ import annotations

from typing import Any

import numpy as np

from stsimdiff_cli.evaluation.bootstrap import Bootstrap
from stsimdiff_cli.evaluation.text_table import TextTable, interval

FORMAT = "stsimdiff.when/1"


def reads(report: dict[str, Any]) -> bool:
    """Whether a report is one of `make bench-when`."""
    return bool(report["format"] == FORMAT)


def tables(report: dict[str, Any]) -> list[TextTable]:
    """One row for every ratio, and for every kind of question at each."""
    clips = list(dict.fromkeys(row["clip"] for row in report["rows"]))
    bootstrap = Bootstrap.over(len(clips), report["seed"])

    def share(rows: list[dict[str, Any]], name: str) -> str:
        known = [row for row in rows if row[name] is not None]
        if not known:
            return "-"
        above, below = np.zeros(len(clips)), np.zeros(len(clips))
        for row in known:
            above[clips.index(row["clip"])] += row[name]
            below[clips.index(row["clip"])] += 1
        return interval(vars(bootstrap.percent(above, below)))

    lines = []
    for ratio in sorted({row["ratio"] for row in report["rows"]}):
        here = [row for row in report["rows"] if row["ratio"] == ratio]
        for kind in ("all", *dict.fromkeys(row["kind"] for row in report["rows"])):
            rows = [row for row in here if kind in ("all", row["kind"])]
            figures = [share(rows, name) for name in ("first", "three", "most kept", "chance", "right")]
            lines.append([f"{ratio:g}", kind, str(len(rows)), *figures])
    header = ["ratio", "questions", "asked", "found", "among three", "slot kept most", "chance", "answer right"]
    return [TextTable(f"ask --when on {len(clips)} rendered clips: events found, %", header, lines)]
