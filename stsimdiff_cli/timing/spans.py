"""What each thread does and when, as the Chrome trace format: Perfetto (ui.perfetto.dev) and chrome://tracing show it.

    with recording() as spans:
        with span("decode", chunk=3): ...
    events = trace_events(spans, "encode")

Times are those of `time.perf_counter`, so that the processes of one machine share a time line.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

MAIN = "main"
_active: list[Span] | None = None


@dataclass(frozen=True)
class Span:
    """Something that a thread did, from `begin` to `end` in seconds. `facts` are shown with it, e.g. the chunk."""

    name: str
    begin: float
    end: float
    thread: int
    thread_name: str
    facts: dict[str, Any] = field(default_factory=dict)


@contextmanager
def recording() -> Iterator[list[Span]]:
    """The spans of all threads of this process that end during the block. ValueError inside another such block."""
    global _active
    if _active is not None:
        raise ValueError("expected one recording at a time, got two")
    spans: list[Span] = []
    _active = spans
    try:
        yield spans
    finally:
        _active = None


@contextmanager
def span(name: str, **facts: Any) -> Iterator[None]:
    """Record the block as a span, if something records."""
    if _active is None:
        yield
        return
    begin = time.perf_counter()
    try:
        yield
    finally:
        add(name, begin, time.perf_counter(), **facts)


def add(name: str, begin: float, end: float, thread: tuple[int, str] | None = None, **facts: Any) -> None:
    """Record a span that is over, if something records. `thread` is its number and name, by default the caller's."""
    if _active is not None:
        current = threading.current_thread()
        own = (threading.get_native_id(), MAIN if current is threading.main_thread() else current.name)
        _active.append(Span(name, begin, end, *(thread or own), facts))


def active() -> bool:
    """Whether something records."""
    return _active is not None


def trace_events(spans: Sequence[Span], process: str) -> list[dict[str, Any]]:
    """The events of one process, named `process`: complete events (`X`) and the names of its threads (`M`).

    Times are whole microseconds, rounded down at both ends, so that spans that follow each other do not overlap.
    """
    pid = os.getpid()
    threads = dict(sorted({(s.thread, s.thread_name) for s in spans}))
    named = [_name("process_name", pid, 0, process), *(_name("thread_name", pid, t, n) for t, n in threads.items())]
    events = [
        {
            "name": s.name,
            "cat": "stage",
            "ph": "X",
            "ts": _microseconds(s.begin),
            "dur": _microseconds(s.end) - _microseconds(s.begin),
            "pid": pid,
            "tid": s.thread,
            "args": s.facts,
        }
        for s in sorted(spans, key=lambda s: (s.begin, -s.end))
    ]
    return [*named, *events]


def busy_seconds(intervals: Iterable[tuple[float, float]]) -> float:
    """The seconds that intervals (begin, end) cover together: where two overlap, once."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        total += max(end - max(begin, reached), 0.0)
        reached = max(reached, end)
    return total


def _microseconds(seconds: float) -> int:
    return int(seconds * 1e6)


def _name(kind: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": pid, "tid": tid, "args": {"name": name}}
