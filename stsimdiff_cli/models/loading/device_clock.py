"""When the work that is queued on a CUDA device is done there, for time lines."""

from __future__ import annotations

import time
from typing import Any

import torch

#: The row of a time line that shows a device's own work: a thread's number that no thread has, and its name.
ROW = (0, "GPU")


class DeviceClock:
    """Reads the time at points of a device's queue, in seconds of `time.perf_counter`."""

    def __init__(self, device: torch.device) -> None:
        """Waits until the device has nothing to do."""
        self._device = device
        self._begin = self.mark()
        self._begin.synchronize()
        self._seconds = time.perf_counter()

    def mark(self) -> Any:
        """A point after all work that is queued now."""
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def seconds(self, mark: Any) -> float:
        """When the device reached a point; to be called after it has."""
        return self._seconds + self._begin.elapsed_time(mark) / 1000
