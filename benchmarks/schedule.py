"""Runs the scheduler's own code over a million items and hundreds of workers that exist only on paper.

    python -m benchmarks.schedule [--items 1000000] [--workers 400] [--output FILE]

Durations are drawn log-normally (median 60 s, sigma 1.2). An item takes a tenth of its duration, spread log-normally
(sigma 0.3); one in 200 is a straggler that takes 20 times as long. Of the attempts, 1 % fail for good, 1 % for now,
0.2 % kill their worker, and 0.05 % hang until their limit. `ideal` is the time of the same work without a single wait:
the sum over the workers, or the longest item. CPU seconds and bytes are those of schedule and loop, without the
workers on paper.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stsimdiff_cli.archive.log import FAILED, SUCCESS, Row
from stsimdiff_cli.archive.loop import Loop
from stsimdiff_cli.archive.schedule import Entry, Schedule
from stsimdiff_cli.machine import describe
from tests.support.simulated_pool import BROKEN, BUSY, DIES, HANGS, WELL, SimulatedPool

FORMAT = "stsimdiff.benchmark.schedule/1"
FATES = {BROKEN: 0.01, BUSY: 0.01, DIES: 0.002, HANGS: 0.0005}
STRAGGLERS, TIMES = 0.005, 20


class TimedPool(SimulatedPool):
    """Measures the CPU time that it takes itself, and when its workers have nothing left to do."""

    cpu = 0.0

    def submit(self, worker: Any, task: Any) -> None:
        """As ever."""
        self._timed(lambda: SimulatedPool.submit(self, worker, task))

    def wait(self, until: float | None) -> list[Any]:
        """As ever."""
        events: list[Any] = self._timed(lambda: SimulatedPool.wait(self, until))
        return events

    def _timed(self, call: Callable[[], Any]) -> Any:
        began = time.process_time()
        try:
            return call()
        finally:
            self.cpu += time.process_time() - began


def simulate(items: int, workers: int, depth: int, seed: int) -> dict[str, Any]:
    """One run, in numbers."""
    dice = random.Random(seed)
    durations = {f"{number:08x}": dice.lognormvariate(4.1, 1.2) for number in range(items)}
    seconds = {
        thing: 0.1 * duration * dice.lognormvariate(0, 0.3) * (TIMES if dice.random() < STRAGGLERS else 1)
        for thing, duration in durations.items()
    }
    names, weights = [*FATES, WELL], [*FATES.values(), 1 - sum(FATES.values())]
    pool = TimedPool(workers, seconds.__getitem__, lambda *_: dice.choices(names, weights)[0], depth)
    pool.submitted = deque(maxlen=0)  # type: ignore[assignment]
    ended: Counter[str] = Counter()
    attempts: Counter[str] = Counter()
    emptied = 0.0

    def report(row: Row, again: bool) -> None:
        nonlocal emptied
        attempts[row.error_type or row.status] += 1
        ended[row.status] += not again
        if not schedule.waiting and not emptied:
            emptied = pool.clock

    def lost(entry: Entry[str], stage: str, error: Exception) -> Row:
        return Row(entry.thing, entry.thing, FAILED, stage=stage, error_type=type(error).__name__, transient=True)

    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    schedule = Schedule(durations.items())
    built = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    Loop(schedule, pool, lambda entry, _: (entry.thing, entry.attempt), lost, report).run()
    cpu = time.process_time() - began - pool.cpu
    ideal = max(sum(seconds.values()) / workers, max(seconds.values()))
    return {
        "items": items,
        "workers": workers,
        "depth": depth,
        "success": ended[SUCCESS],
        "failed": ended[FAILED],
        "ended": ended.total(),
        "attempts": dict(attempts),
        "ideal_seconds": round(ideal),
        "queue_empty_seconds": round(emptied),
        "seconds": round(pool.clock),
        "longest_item_seconds": round(max(seconds.values())),
        "cpu_seconds": round(cpu, 2),
        "cpu_microseconds_an_item": round(1e6 * cpu / items, 1),
        "schedule_bytes_an_item": round(1024 * (built - before) / items),
        "growth_while_running_bytes_an_item": round(
            1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - built) / items
        ),
    }


def main() -> None:
    """Parse the arguments and simulate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=400)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON report to write")
    arguments = parser.parse_args()
    row = simulate(arguments.items, arguments.workers, arguments.depth, arguments.seed)
    assert row["success"] + row["failed"] == row["items"] == row["ended"]
    print(json.dumps(row))
    if arguments.output:
        arguments.output.write_text(json.dumps({"format": FORMAT, "machine": describe(), **row}, indent=1) + "\n")


if __name__ == "__main__":
    main()
