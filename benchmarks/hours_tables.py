"""A report of benchmarks/hours.py as tables."""

from __future__ import annotations

from statistics import median
from typing import Any

from stsimdiff_cli.evaluation.text_table import TextTable

FORMAT = "stsimdiff.hours/1"
STARTS = ("encode", "encode, gone on", "encode, gone on again")


def reads(report: dict[str, Any]) -> bool:
    """Whether a report is one of `make bench-hours`."""
    return bool(report["format"] == FORMAT)


def _step(name: str, step: dict[str, Any]) -> list[str]:
    written = "-" if step["result"] is None else f"{step['result']['bytes'] / 1e6:.0f}"
    ended = "killed" if step["killed"] else "done"
    return [name, ended, f"{step['cpu_seconds']:.0f}", f"{step['peak_bytes'] / 1e6:.0f}", written]


def _asked(name: str, rows: list[dict[str, Any]]) -> list[str]:
    right = [one["right"] for row in rows for one in row["questions"]]
    seconds = [sum(row["seconds"].values()) for row in rows]
    share = f"{100 * sum(right) / len(right):.1f} of {len(right)}"
    return [name, share, f"{median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"]


def tables(report: dict[str, Any]) -> list[TextTable]:
    """What the steps took, and how a part of the recording was answered from all tokens and from those kept."""
    steps = [_step(name, step) for name, step in zip(STARTS, report["encode"], strict=True)]
    steps.append(_step("compress --append", report["compress"]))
    steps.append(_step("compress into one file", report["compress_at_once"]))
    asked = [
        _asked("all tokens", report["answers_from_all"]),
        _asked(f"{report['ratio']}, by segments", report["answers"]),
        _asked(f"{report['ratio']}, one file", report["answers_from_one"]),
    ]
    return [
        TextTable("Hours", ["step", "ended", "CPU seconds", "peak memory, MB", "folder, MB"], steps),
        TextTable("A part of hours", ["asked of", "right, %", "seconds to an answer"], asked),
    ]
