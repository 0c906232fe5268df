"""Workers that exist only on paper, with a clock that jumps from event to event."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from stsimdiff_cli.archive.log import FAILED, SUCCESS, Row
from stsimdiff_cli.archive.loop import Loop
from stsimdiff_cli.archive.pool import Done, Event, Gone, Joined, Stage
from stsimdiff_cli.archive.schedule import LIMIT, Entry, Limit, Schedule

#: What may happen to an attempt at an item: it ends well, fails for good, fails for now, or its worker dies or hangs.
WELL, BROKEN, BUSY, DIES, HANGS = "well", "broken", "busy", "dies", "hangs"


class SimulatedPool:
    """A pool whose workers take `seconds(thing)` for an item, and meet what `fate(thing, attempt)` says."""

    def __init__(
        self,
        workers: int,
        seconds: Callable[[str], float],
        fate: Callable[[str, int], str] = lambda thing, attempt: WELL,
        depth: int = 1,
    ) -> None:
        self.size, self.depth = workers, depth
        self.clock = 0.0
        self._seconds, self._fate = seconds, fate
        self._names = itertools.count(workers)
        self._queues: dict[int, list[tuple[str, int]]] = {name: [] for name in range(workers)}
        self._busy: set[int] = set()
        self._events: list[tuple[float, int, Event]] = []
        self._order = itertools.count()
        self.busy_until: dict[int, float] = {}
        self.submitted: list[tuple[Any, int]] = []

    def workers(self) -> Sequence[int]:
        return list(self._queues)

    def submit(self, worker: Any, task: Any) -> None:
        self.submitted.append(task)
        self._queues[worker].append(task)
        if worker not in self._busy:
            self._begin(worker)

    def wait(self, until: float | None) -> list[Event]:
        if not self._events or (until is not None and self._events[0][0] > until):
            if until is None:
                raise RuntimeError("nothing will ever happen again")
            self.clock = max(self.clock, until)
            return []
        self.clock, _, event = heapq.heappop(self._events)
        if isinstance(event, _Ended):
            return [Gone(event.worker, event.why)]
        if isinstance(event, Done | Gone | Stage) and event.worker not in self._queues:
            return []  # of a worker that was ended in the meantime
        if isinstance(event, Done):
            self._busy.discard(event.worker)
            self.busy_until[event.worker] = self.clock
            if self._queues[event.worker]:
                self._begin(event.worker)
        elif isinstance(event, Gone):
            return [event, self._join(event.worker)]
        return [event]

    def end(self, worker: Any) -> None:
        self._queues.pop(worker, None)
        name = next(self._names)
        self._queues[name] = []
        self._push(0.0, _Ended(worker, "was killed"))
        self._push(0.0, Joined(name))

    def now(self) -> float:
        return self.clock

    def _begin(self, worker: int) -> None:
        thing, attempt = self._queues[worker].pop(0)
        self._busy.add(worker)
        self._push(0.0, Stage(worker, thing, "encode"))
        fate, seconds = self._fate(thing, attempt), self._seconds(thing)
        if fate == DIES:
            self._push(seconds, Gone(worker, "was killed by SIGKILL"))
        elif fate != HANGS:
            status = SUCCESS if fate == WELL else FAILED
            self._push(seconds, Done(worker, thing, Row(thing, thing, status, transient=fate == BUSY, attempt=attempt)))

    def _join(self, worker: int) -> Joined:
        del self._queues[worker]
        self._busy.discard(worker)
        name = next(self._names)
        self._queues[name] = []
        return Joined(name)

    def _push(self, delay: float, event: Event) -> None:
        heapq.heappush(self._events, (self.clock + delay, next(self._order), event))


class _Ended(Gone):
    """The end of a worker that the loop wanted: it has no queue any more."""


def simulate(
    durations: dict[str, float], pool: SimulatedPool, attempts: int = 2, limit: Limit = LIMIT
) -> list[tuple[Row, bool]]:
    """All reports of the real schedule and loop over a simulated pool, each with whether another attempt followed."""
    reports: list[tuple[Row, bool]] = []

    def lost(entry: Entry[str], stage: str, error: Exception) -> Row:
        return Row(
            entry.thing, entry.thing, FAILED, stage=stage, error_type=type(error).__name__, error_message=str(error),
            transient=True, attempt=entry.attempt,
        )  # fmt: skip

    Loop(
        Schedule(durations.items(), attempts, limit),
        pool,
        lambda entry, limit: (entry.thing, entry.attempt),
        lost,
        lambda row, again: reports.append((row, again)),
    ).run()
    return reports
