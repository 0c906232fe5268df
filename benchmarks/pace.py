"""The reports of overlap.py, startup.py, decode_workers.py and decode_torchcodec.py as tables."""

from __future__ import annotations

from typing import Any

from stsimdiff_cli.evaluation.text_table import TextTable

Json = dict[str, Any]
OVERLAP, STARTUP = "stsimdiff.overlap/1", "stsimdiff.startup/1"
WORKERS, TORCHCODEC = "stsimdiff.decode-workers/1", "stsimdiff.decode-torchcodec/1"


def reads(report: Json) -> bool:
    """Whether a report is of one of the four."""
    return report.get("format") in TABLES


def tables(report: Json) -> list[TextTable]:
    """All tables of a report."""
    return [TABLES[report["format"]](report)]


def startup_table(report: Json) -> TextTable:
    """CPU seconds of whole processes, and what each takes more than the one before."""
    rows, before = [], 0.0
    for row in report["rows"]:
        rows.append([row["process"], _spread(row, 2), f"{row['median'] - before:+.2f}"])
        before = row["median"]
    return TextTable(
        f"CPU seconds of a process, median of {report['repeats']} (least to most)", ["process", "all", "more"], rows
    )


def overlap_table(report: Json) -> TextTable:
    """What stages at the same time gain, and how busy the machine was with other work."""
    rows = [
        [
            str(row["workers"]),
            row["form"],
            *(_spread(row[name], 2) for name in ("seconds", "speedup", "cores_used", "encoder_busy", "wanting_a_core")),
            _spread(row["cpu_seconds"], 2),
        ]
        for row in report["rows"]
    ]
    header = [
        "workers",
        "form",
        "seconds",
        "faster than in turn",
        "cores used",
        "encoder busy",
        "wanting a core",
        "CPU s",
    ]
    return TextTable(
        f"{report['frames']} frames, {report['model']}, median of {report['rounds']} rounds (least to most)",
        header,
        rows,
    )


def workers_table(report: Json) -> TextTable:
    """What several workers gain, and how many decode at the same time with how many threads each."""
    rows = [
        [
            row["clip"],
            *(str(row[name]) for name in ("workers", "at_once", "threads")),
            *(_spread(row[name], 2) for name in ("seconds", "cpu_seconds", "speedup", "wanting_a_core")),
        ]
        for row in report["rows"]
    ]
    return TextTable(
        f"{report['rows'][0]['frames']} frames, median of {report['repeats']} rounds (least to most)",
        ["clip", "workers", "at once", "threads of each", "seconds", "CPU s", "faster than one", "wanting a core"],
        rows,
    )


def torchcodec_table(report: Json) -> TextTable:
    """What PyAV and torchcodec take for the same frames, and PyAV's part of torchcodec's."""
    rows = [
        [
            row["clip"].partition("-")[0],
            str(row["threads"]),
            {"pyav": "PyAV", "torchcodec": "torchcodec"}[row["reader"]],
            *(_spread(row[name], 2) for name in ("cpu_seconds", "free_seconds", "seconds")),
            *(_spread(row[f"{name}_to_torchcodec"], 2) for name in ("cpu_seconds", "free_seconds", "seconds")),
        ]
        for row in report["rows"]
    ]
    frames = report["rows"][0]["frames"]
    return TextTable(
        f"{frames} frames of {report['minutes']} minutes, median of {report['rounds']} rounds (least to most)",
        ["clip", "threads", "reader", "CPU s", "free s", "clock s", "CPU ratio", "free ratio", "clock ratio"],
        rows,
    )


def _spread(numbers: Json, digits: int) -> str:
    return f"{numbers['median']:.{digits}f} ({numbers['from']:.{digits}f} to {numbers['to']:.{digits}f})"


TABLES = {OVERLAP: overlap_table, STARTUP: startup_table, WORKERS: workers_table, TORCHCODEC: torchcodec_table}
