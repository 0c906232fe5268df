"""Which item is next, and what follows when a worker is late or dies.

It knows neither clock nor process: it is told what happened and what time it is. So the same code runs over worker
processes, over machines, and in a simulation of a million items.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

Thing = TypeVar("Thing", bound=Hashable)
Worker = Hashable


@dataclass(frozen=True)
class Limit:
    """How long a video may take: some times its duration, but at least some seconds. Loading a model does not count."""

    times: float = 10.0
    least: float = 600.0

    def seconds(self, duration: float) -> float:
        """The limit for a video that lasts so long."""
        return max(self.least, self.times * duration)


LIMIT = Limit()


@dataclass(slots=True)
class Entry(Generic[Thing]):
    """An item in the schedule, and how often it was tried."""

    thing: Thing
    seconds: float  # of video
    attempt: int = 0  # the present or the last one


@dataclass(slots=True)
class _Running(Generic[Thing]):
    entry: Entry[Thing]
    limit: float
    since: float | None = None  # None: it waits for its turn, or for a model
    used: float = 0.0  # seconds before that


class Schedule(Generic[Thing]):
    """Hands out items, longest first, each to one worker at a time; what failed may come again after all others.

    `unended` counts, by item, how often the whole program ended while it worked on it. Such items come after all
    others; what it happened to more than once comes at the very end, while no worker does anything else.
    `left` is the number of items that are neither finished nor given up.
    """

    def __init__(
        self,
        durations: Iterable[tuple[Thing, float]],
        attempts: int = 2,
        limit: Limit = LIMIT,
        unended: Mapping[Thing, int] | None = None,
    ) -> None:
        entries = [Entry(thing, seconds) for thing, seconds in durations]
        entries.sort(key=lambda entry: -entry.seconds)
        counts = [(unended or {}).get(entry.thing, 0) for entry in entries]
        first, again, alone = ([e for e, n in zip(entries, counts, strict=True) if min(n, 2) == k] for k in range(3))
        self._waiting, self._again, self._alone = deque(first), deque(again), deque(alone)
        self._running: dict[Worker, dict[Thing, _Running[Thing]]] = {}
        self._at: dict[Worker, Thing] = {}  # the item that a worker is at, of those that it holds
        self._deadlines: list[tuple[float, int, Worker, Thing]] = []  # a heap; some entries are out of date
        self._count = itertools.count()
        self._attempts, self._limit = attempts, limit
        self.left = len(entries)

    @property
    def waiting(self) -> bool:
        """Whether there is an item for a worker without one."""
        return bool(self._waiting or self._again or (self._alone and not any(self._running.values())))

    def held(self, worker: Worker) -> int:
        """How many items a worker has."""
        return len(self._running.get(worker, ()))

    def take(self, worker: Worker) -> tuple[Entry[Thing], float] | None:
        """The next item for a worker, and the seconds that it may take; None if none is waiting."""
        if not self.waiting:
            return None
        entry = (self._waiting or self._again or self._alone).popleft()
        entry.attempt += 1
        limit = self._limit.seconds(entry.seconds)
        self._running.setdefault(worker, {})[entry.thing] = _Running(entry, limit)
        return entry, limit

    def works(self, worker: Worker, thing: Thing, now: float, counts: bool = True) -> None:
        """A worker is at an item; its time counts from now on, or (a model is loaded) does not."""
        running = self._running.get(worker, {}).get(thing)
        if running is None:
            return
        self._at[worker] = thing
        if counts and running.since is None:
            running.since = now
            deadline = now + running.limit - running.used
            heapq.heappush(self._deadlines, (deadline, next(self._count), worker, thing))
        elif not counts and running.since is not None:
            running.used, running.since = running.used + now - running.since, None

    def finish(self, worker: Worker, thing: Thing, again: bool = False) -> bool:
        """An item ended: well, or for good, or so that it may do better `again`. Whether there is another attempt."""
        running = self._running.get(worker, {}).pop(thing, None)
        if running is None:
            return False
        if self._at.get(worker) == thing:
            del self._at[worker]
        if again and running.entry.attempt < self._attempts:
            self._again.append(running.entry)
            return True
        self.left -= 1
        return False

    def at(self, worker: Worker) -> Entry[Thing] | None:
        """The item that a worker is at; None if it has not begun any."""
        thing = self._at.get(worker)
        return None if thing is None else self._running[worker][thing].entry

    def lose(self, worker: Worker) -> None:
        """A worker is gone: what it held and did not `finish` goes to others, as if it had never been taken."""
        held = self._running.pop(worker, {})
        self._at.pop(worker, None)
        for running in reversed(held.values()):
            running.entry.attempt -= 1
            self._waiting.appendleft(running.entry)

    def next_deadline(self) -> float | None:
        """When an item that is worked on would be late; None if there is none."""
        while self._deadlines and not self._holds(self._deadlines[0]):
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def overdue(self, now: float) -> list[tuple[Worker, Entry[Thing]]]:
        """The workers that are late, each once, and with which item."""
        late = []
        while (deadline := self.next_deadline()) is not None and deadline <= now:
            _, _, worker, thing = heapq.heappop(self._deadlines)
            late.append((worker, self._running[worker][thing].entry))
        return late

    def _holds(self, deadline: tuple[float, int, Worker, Thing]) -> bool:
        """Whether a deadline is that of an item which is worked on now."""
        when, _, worker, thing = deadline
        running = self._running.get(worker, {}).get(thing)
        if running is None or running.since is None:
            return False
        return abs(running.since + running.limit - running.used - when) < 1e-6
