"""Runs the cells, each in a process of its own, and makes a report of their numbers."""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from .. import __version__
from ..errors import RequestError
from ..machine import describe
from .job import BASELINE, PEAK, STAGES, TOTALS, Job

FORMAT = "stsimdiff.profile/1"
#: Facts of a cell that are the same for all cells of a report.
_COMMON = ("machine", "source", "dtype", "peak_source")
#: Repeats that differ by more than this part of their median are worth a remark.
_RESTLESS = 0.25
#: The command of a cell's process.
COMMAND = [sys.executable, "-m", "stsimdiff_cli.profiling.cell"]


def profile(jobs: list[Job], on_cell: Callable[[int, Job], None] = lambda *_: None) -> dict[str, Any]:
    """Measure all jobs, in order, and report. `on_cell` is called with a count and the job before each.

    A cell that crashes becomes a row with an error. RequestError if the request itself is wrong.
    """
    cells = []
    for count, job in enumerate(jobs):
        on_cell(count, job)
        cells.append(run_cell(job))
    common: dict[str, Any] = next((cell for cell in cells if "error" not in cell), {})
    rows = [row(job, cell) for job, cell in zip(jobs, cells, strict=True)]
    for each in rows:
        each["saved_percent"] = saved(each, baseline(rows, each["frames"]))
    first = jobs[0]
    return {
        "format": FORMAT,
        "stsimdiff": __version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": common.get("machine") or describe(),
        "model": first.model,
        "dtype": common.get("dtype"),
        "attention": first.attention,
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
    done = subprocess.run(COMMAND, input=json.dumps(asdict(job)), capture_output=True, text=True, check=False)
    if done.returncode == 0:
        found = json.loads(done.stdout)
        if found.get("exit_code") == RequestError.exit_code:  # every other cell would say the same
            raise RequestError(found["error"], found["hint"])
        return found
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        return {"error": f"ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")}
    lines = done.stderr.strip().splitlines()
    return {"error": lines[-1] if lines else f"exit code {done.returncode}", "detail": done.stderr[-4000:]}


def row(job: Job, cell: dict[str, Any]) -> dict[str, Any]:
    """One row of the report: what was asked for, and the cell's numbers with the spread of its repeats."""
    asked = {"frames": job.frames, "method": job.method}
    if "error" in cell:
        return asked | {"error": cell["error"], "detail": cell.get("detail") or cell.get("hint")}
    numbers = {name: value for name, value in cell.items() if name not in _COMMON}
    return asked | {"error": None, "seconds": spreads(cell["repeat_seconds"])} | numbers


def spreads(repeats: list[dict[str, float | None]]) -> dict[str, dict[str, float] | None]:
    """Median, least and most seconds of each stage; None for a stage that the runs do not have."""
    found: dict[str, dict[str, float] | None] = {}
    for name in repeats[0]:
        values = [value for run in repeats if (value := run[name]) is not None]
        found[name] = {"median": statistics.median(values), "min": min(values), "max": max(values)} if values else None
    return found


def widest_spread(rows: list[dict[str, Any]]) -> float:
    """How far apart the totals of a row's repeats are, as a part of their median, in the worst row; 0 without rows."""
    totals = [row["seconds"][name] for row in rows if row["error"] is None for name in TOTALS]
    return max(((spread["max"] - spread["min"]) / spread["median"] for spread in totals), default=0.0)


def remarks(rows: list[dict[str, Any]]) -> list[str]:
    """What a reader of the numbers must know."""
    found = [f"{row['method']} at {row['frames']} frames failed: {row['error']}" for row in rows if row["error"]]
    frames = {(row["frames"], row["frames_decoded"]) for row in rows if not row["error"]}
    found += [f"the video has only {there} frames, not {asked}." for asked, there in sorted(frames) if there < asked]
    if (spread := widest_spread(rows)) > _RESTLESS:
        found.append(
            f"repeats differ by up to {100 * spread:.0f} % of their median: other work on this machine? "
            "Savings smaller than that are noise. Fewer threads may help: OMP_NUM_THREADS=1"
        )
    return found


def labels(rows: list[dict[str, Any]]) -> dict[str, str]:
    """A short name for each method: its own, with a number if parameters are given."""
    found: dict[str, str] = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        name, colon, _ = method.partition(":")
        found[method] = f"{name} {1 + sum(other.startswith(name + ':') for other in found)}" if colon else name
    return found


def baseline(rows: list[dict[str, Any]], frames: int) -> dict[str, Any] | None:
    """The uncompressed row at a number of frames, if it was measured."""
    for each in rows:
        if each["frames"] == frames and each["method"] == BASELINE and each["error"] is None:
            return each
    return None


def saved(measured: dict[str, Any], base: dict[str, Any] | None) -> dict[str, float] | None:
    """Percent of the baseline's time and memory that a row saves (section 5.5); negative if it takes more."""
    if base is None or base is measured or measured["error"] is not None:
        return None
    percent = {name: _saving(measured["seconds"][name]["median"], base["seconds"][name]["median"]) for name in TOTALS}
    return percent | {"peak": _saving(measured["peak_bytes"]["all"], base["peak_bytes"]["all"])}


def _saving(value: float, base: float) -> float:
    return 100 * (base - value) / base
