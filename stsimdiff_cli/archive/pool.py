"""What a pool of workers is, and the simplest one: this process."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .job import Fatal, Performer, Task
from .log import Row
from .schedule import Worker


@dataclass(frozen=True, slots=True)
class Stage:
    """A worker has begun a stage of an item."""

    worker: Worker
    id: str
    stage: str


@dataclass(frozen=True, slots=True)
class Done:
    """A worker has ended a task."""

    worker: Worker
    id: str
    row: Row | Fatal


@dataclass(frozen=True, slots=True)
class Gone:
    """A worker has ended; `why` says how, to end a sentence with."""

    worker: Worker
    why: str


@dataclass(frozen=True, slots=True)
class Joined:
    """A worker is there, in the place of one that has gone."""

    worker: Worker


Event = Stage | Done | Gone | Joined


class Pool(Protocol):
    """Workers that do tasks: `size` of them, if all are there.

    Each may hold `depth` tasks: it works on one, and may prepare others.
    """

    size: int
    depth: int

    def workers(self) -> Sequence[Worker]:
        """The workers at the beginning."""

    def submit(self, worker: Worker, task: Task) -> None:
        """Give a worker a task."""

    def wait(self, until: float | None) -> list[Event]:
        """What has happened since; waits for something to happen, but at most until a time on the pool's clock."""

    def end(self, worker: Worker) -> None:
        """End a worker at once; it will be Gone."""

    def now(self) -> float:
        """The time, in seconds."""


class LocalPool:
    """This process as the only worker."""

    size = depth = 1

    def __init__(self, performer: Performer) -> None:
        self._performer = performer
        self._tasks: deque[Task] = deque()
        self._announced = False

    def workers(self) -> Sequence[Worker]:
        """One."""
        return ["here"]

    def submit(self, worker: Worker, task: Task) -> None:  # noqa: ARG002
        """Keep the task for `wait`."""
        self._tasks.append(task)

    def wait(self, until: float | None) -> list[Event]:  # noqa: ARG002
        """Say that the task is begun, and then, at the next call, do it."""
        self._announced = not self._announced
        if self._announced:
            return [Stage("here", self._tasks[0].item.id, "probe")]
        task = self._tasks.popleft()
        return [Done("here", task.item.id, self._performer(task))]

    def end(self, worker: Worker) -> None:
        """Nobody is late who answers at once."""

    def now(self) -> float:
        """The time, in seconds."""
        return time.monotonic()
