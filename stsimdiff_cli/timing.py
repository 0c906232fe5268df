"""A stopwatch for the steps of a job."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Steps of a job that are not a method's own work; a method names its steps as it likes.
OUTSIDE = frozenset({"scan", "decode", "encode", "load", "importance", "read", "write", "prefill", "answer", "token"})


def selection_seconds(seconds: dict[str, float]) -> float:
    """What a method took on the tokens, without files and without the LLM."""
    return sum(value for step, value in seconds.items() if step not in OUTSIDE)


class Stopwatch:
    """Seconds spent in named steps; a step that comes back adds up.

    `synchronise` is called at every boundary, so that work queued on a GPU is counted where it belongs.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.synchronise: Callable[[], None] = lambda: None
        self._begin = time.perf_counter()
        self._current: tuple[str, float] | None = None

    def step(self, name: str) -> None:
        """End the current step and begin another."""
        self.stop()
        self._current = (name, time.perf_counter())

    def stop(self) -> None:
        """End the current step, if there is one."""
        self.synchronise()
        if self._current is not None:
            name, begin = self._current
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin
            self._current = None

    @contextmanager
    def during(self, name: str) -> Iterator[None]:
        """Time a block as one step."""
        self.step(name)
        try:
            yield
        finally:
            self.stop()

    def total(self) -> float:
        """Seconds since the stopwatch was made."""
        return time.perf_counter() - self._begin
