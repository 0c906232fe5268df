"""Runs the cells, each in a process of its own, and computes a report from their numbers."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from .. import __version__
from ..errors import RequestError
from ..machine import describe
from ..methods.spec import shown
from ..storage.atomic import temporary_folder
from .job import BASELINE, PEAK, STAGES, TOTALS, Job

FORMAT = "stsimdiff.profile/1"
#: Facts that are the same for all cells, and appear once in a report.
_COMMON = ("machine", "source", "dtype", "peak_source")
#: Repeats that differ by more than this part of their median cause a warning.
_NOISY = 0.25
#: The command that measures a cell.
COMMAND = [sys.executable, "-m", "stsimdiff_cli.profiling.cell"]


def profile(jobs: list[Job], on_cell: Callable[[int, Job], None] = lambda *_: None) -> dict[str, Any]:
    """Measure all jobs in order and report. Before each job, `on_cell` is called with its number (from 0) and itself.

    A cell that crashes becomes a row with an error. RequestError if the request itself is wrong.
    """
    cells = []
    for count, job in enumerate(jobs):
        on_cell(count, job)
        cells.append(run_cell(job))
    common: dict[str, Any] = next((cell for cell in cells if "error" not in cell), {})
    rows = [make_row(job, cell) for job, cell in zip(jobs, cells, strict=True)]
    for row in rows:
        row["saved_percent"] = savings(row, baseline_row(rows, row["frames"]))
    first = jobs[0]
    return {
        "format": FORMAT,
        "stsimdiff": __version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": common.get("machine") or describe(),
        "model": first.model,
        "dtype": common.get("dtype"),
        "attention": first.runtime.attention,
        "video": common.get("source"),
        "ratio": float(first.ratio),
        "new_tokens": first.new_tokens,
        "questions": first.questions,
        "repeats": first.repeats,
        "peak_source": common.get("peak_source"),
        "counted": STAGES | TOTALS | {"peak": PEAK},
        "rows": rows,
        "remarks": remarks(rows),
    }


def run_cell(job: Job) -> dict[str, Any]:
    """The numbers of one job, or its error."""
    with temporary_folder() as folder:  # what the cell leaves there goes, even if it is killed
        environment = {**os.environ, "TMPDIR": str(folder)}
        text = json.dumps(job.to_json())
        done = subprocess.run(COMMAND, input=text, capture_output=True, text=True, check=False, env=environment)
    if done.returncode == 0:
        cell = json.loads(done.stdout)
        if cell.get("exit_code") == RequestError.exit_code:  # every other cell would fail in the same way
            raise RequestError(cell["error"], cell["hint"])
        return cell
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        return {"error": f"ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")}
    lines = done.stderr.strip().splitlines()
    return {"error": lines[-1] if lines else f"exit code {done.returncode}", "detail": done.stderr[-4000:]}


def make_row(job: Job, cell: dict[str, Any]) -> dict[str, Any]:
    """One row of the report: the request, and the numbers of the cell with the spread of its repeats."""
    asked = {"frames": job.frames, "method": job.method}
    if "error" in cell:
        return asked | {"error": cell["error"], "detail": cell.get("detail") or cell.get("hint")}
    numbers = {name: value for name, value in cell.items() if name not in _COMMON}
    return asked | {"error": None, "seconds": spreads(cell["repeat_seconds"])} | numbers


def spreads(repeats: list[dict[str, float | None]]) -> dict[str, dict[str, float] | None]:
    """Median, minimum and maximum seconds of each stage; None for a stage that the runs do not have."""
    stages: dict[str, dict[str, float] | None] = {}
    for name in repeats[0]:
        values = [value for run in repeats if (value := run[name]) is not None]
        stages[name] = {"median": statistics.median(values), "min": min(values), "max": max(values)} if values else None
    return stages


def widest_spread(rows: list[dict[str, Any]]) -> float:
    """The range of a total over its repeats, as a part of its median, in the worst row; 0 without rows."""
    totals = [row["seconds"][name] for row in rows if row["error"] is None for name in TOTALS]
    return max(((spread["max"] - spread["min"]) / spread["median"] for spread in totals), default=0.0)


def remarks(rows: list[dict[str, Any]]) -> list[str]:
    """Warnings that belong to the numbers."""
    texts = [f"{row['method']} at {row['frames']} frames failed: {row['error']}" for row in rows if row["error"]]
    frames = {(row["frames"], row["frames_decoded"]) for row in rows if not row["error"]}
    texts += [f"the video has only {there} frames, not {asked}." for asked, there in sorted(frames) if there < asked]
    if (spread := widest_spread(rows)) > _NOISY:
        texts.append(
            f"repeats differ by up to {100 * spread:.0f} % of their median: other work on this machine? "
            "Savings smaller than that are noise. Fewer threads may help: OMP_NUM_THREADS=1"
        )
    return texts


def short_names(rows: list[dict[str, Any]]) -> dict[str, str]:
    """A short name for each method: as tables write it, or its name with a number if parameters are given."""
    names: dict[str, str] = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        name, colon, _ = method.partition(":")
        number = 1 + sum(other.startswith(name + ":") for other in names)
        names[method] = f"{name} {number}" if colon else shown(method)
    return names


def legend(rows: list[dict[str, Any]]) -> list[str]:
    """What the names with numbers stand for: `fastv 1: fastv:k=3@file`."""
    names = short_names(rows)
    return [f"{name}: {shown(method)}" for method, name in names.items() if shown(method) != name]


def baseline_row(rows: list[dict[str, Any]], frames: int) -> dict[str, Any] | None:
    """The uncompressed row at a number of frames, if it was measured."""
    for row in rows:
        if row["frames"] == frames and row["method"] == BASELINE and row["error"] is None:
            return row
    return None


def savings(row: dict[str, Any], base: dict[str, Any] | None) -> dict[str, float] | None:
    """Percent of the baseline's time and memory that a row saves (paper, section 5.5); negative if it needs more."""
    if base is None or base is row or row["error"] is not None:
        return None
    percent = {name: _saving(row["seconds"][name]["median"], base["seconds"][name]["median"]) for name in TOTALS}
    return percent | {"peak": _saving(row["peak_bytes"]["all"], base["peak_bytes"]["all"])}


def _saving(value: float, base: float) -> float:
    return 100 * (base - value) / base
