"""The rules of the Chrome trace format that a file must keep to be shown as it is meant.

From the "Trace Event Format" document: every event has a phase `ph`, `pid` and `tid`; a complete event (`X`) also a
name, a time stamp `ts` and a duration `dur` in microseconds; a metadata event (`M`) names a process or a thread in
`args.name`. Complete events of one thread are a call stack: each lies within the one around it, or after it.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any


def check_trace(trace: dict[str, Any]) -> None:
    """AssertionError for what a viewer would show wrongly."""
    assert isinstance(trace["traceEvents"], list) and trace["displayTimeUnit"] in ("ms", "ns")
    threads, named = defaultdict(list), set()
    for event in trace["traceEvents"]:
        assert event["ph"] in ("X", "M"), event
        assert all(type(event[key]) is int and event[key] >= 0 for key in ("pid", "tid")), event
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name") and event["args"]["name"], event
            named.add((event["name"], event["pid"], event["tid"]))
            continue
        assert isinstance(event["name"], str) and event["name"] and isinstance(event["args"], dict), event
        assert all(isinstance(event[key], int | float) and event[key] >= 0 for key in ("ts", "dur")), event
        threads[event["pid"], event["tid"]].append(event)
    for (pid, tid), events in threads.items():
        assert ("process_name", pid, 0) in named and ("thread_name", pid, tid) in named
        check_nesting(events)


def check_nesting(events: list[dict[str, Any]]) -> None:
    """AssertionError where two events of a thread overlap and neither lies within the other."""
    open_until: list[float] = []
    for event in sorted(events, key=lambda e: (e["ts"], -e["dur"])):
        while open_until and open_until[-1] <= event["ts"]:
            open_until.pop()
        assert not open_until or event["ts"] + event["dur"] <= open_until[-1], event
        open_until.append(event["ts"] + event["dur"])
