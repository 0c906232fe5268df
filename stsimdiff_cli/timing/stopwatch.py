"""A stopwatch for the stages of a job."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

#: Stages that are not a method's own work. A method chooses the names of its steps.
OUTSIDE = frozenset({"scan", "decode", "encode", "load", "importance", "read", "write", "prefill", "answer", "token"})


def selection_seconds(seconds: dict[str, float]) -> float:
    """Seconds that the method itself took, without reading, writing and running models."""
    return sum(value for step, value in seconds.items() if step not in OUTSIDE)


class Stopwatch:
    """Adds up the seconds spent in named steps.

    With a `device` ("auto" is a GPU if there is one), work that is queued on a GPU is waited for at the end of each
    step, so that it counts for the step that queued it.
    """

    def __init__(self, device: str | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self.device = device
        self._begin = time.perf_counter()
        self._current: tuple[str, float] | None = None

    def step(self, name: str, wait: bool = True) -> None:
        """End the current step, if there is one, and begin another.

        Without `wait`, work that is queued on a GPU goes on, and counts for the step that waits for it.
        """
        self.stop(wait)
        self._current = (name, time.perf_counter())

    def stop(self, wait: bool = True) -> None:
        """End the current step, if there is one."""
        if wait:
            self._synchronise()
        if self._current is not None:
            name, begin = self._current
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin
            self._current = None

    def _synchronise(self) -> None:
        if self.device is None or not self.device.startswith(("auto", "cuda", "mps")):
            return
        import torch

        if self.device != "mps" and torch.cuda.is_available():
            torch.cuda.synchronize(None if self.device == "auto" else self.device)
        elif not self.device.startswith("cuda") and torch.backends.mps.is_available():
            torch.mps.synchronize()

    @contextmanager
    def during(self, name: str) -> Iterator[None]:
        """Time a block as one step."""
        self.step(name)
        try:
            yield
        finally:
            self.stop()

    def total(self) -> float:
        """Seconds since the stopwatch was created."""
        return time.perf_counter() - self._begin
