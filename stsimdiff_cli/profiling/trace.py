"""The time line of a run: one more run of a cell, as the commands do it, with a span for all that a thread does.

encode to a tokens file, compress it, ask: loading included, each part of the model once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..storage.atomic import save_json
from ..timing.spans import Span, busy_seconds, trace_events
from .job import Job

#: The spans in which the vision encoder works: on the GPU if there is one, else in the thread that runs the model.
ENCODER = "encode"


def timeline(spans: list[Span], job: Job) -> dict[str, Any]:
    """The events of a traced run, and how much of its time the encoder worked."""
    work = [(each.begin, each.end) for each in spans if each.name == ENCODER]
    begin, end = min(a for a, _ in work), max(b for _, b in work)
    return {
        "trace": trace_events(spans, f"{job.method}, {job.frames} frames"),
        "encoder": {"seconds": end - begin, "busy_percent": 100 * busy_seconds(work) / (end - begin)},
    }


def sentence(row: dict[str, Any], name: str) -> str:
    """How much of the time the encoder worked, for a row of a report that was traced."""
    encoder = row["encoder"]
    return (
        f"{name}, {row['frames']} frames: from the first frame to the last ({encoder['seconds']:.2f} s) the encoder "
        f"worked {encoder['busy_percent']:.0f} % of the time."
    )


def save_trace(path: Path, rows: list[dict[str, Any]]) -> None:
    """Move the events of all rows into one trace file, which is written whole or not at all."""
    events = [event for row in rows for event in row.pop("trace", ())]
    save_json(path, {"traceEvents": events, "displayTimeUnit": "ms"})
