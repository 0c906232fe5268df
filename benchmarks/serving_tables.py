"""A report of benchmarks/serving.py as a table."""

from __future__ import annotations

from typing import Any

from stsimdiff_cli.evaluation.text_table import TextTable

FORMAT = "stsimdiff.serving/1"


def reads(report: dict[str, Any]) -> bool:
    """Whether a report is one of `make bench-serving`."""
    return bool(report["format"] == FORMAT)


def tables(report: dict[str, Any]) -> list[TextTable]:
    """One row for `ask`, and one for every number of clients."""
    alone = report["ways"][0]
    lines = [
        [
            way["name"],
            str(way["questions"]),
            f"{way['questions'] / way['seconds']:.1f}",
            f"{alone['seconds'] / alone['questions'] * way['questions'] / way['seconds']:.2f}",
            f"{1000 * way['cpu_seconds'] / way['questions']:.0f}",
            "-" if way["prefix_tokens"] is None else f"{100 * way['prefix_hits'] / way['prefix_tokens']:.0f}",
        ]
        for way in report["ways"]
    ]
    header = ["asked by", "questions", "per second", "as many as `ask`", "CPU ms each", "prompt tokens from cache, %"]
    return [TextTable("Questions per second", header, lines)]
