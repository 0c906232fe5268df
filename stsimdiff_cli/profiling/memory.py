"""The peak memory of a part of a run."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """The most memory in use between `reset` and `read`, in bytes: of the GPU if the model is there.

    On a CPU it is the resident memory of the process, Python and libraries included. Linux records its peak as VmHWM
    and can reset it. Other systems have `ru_maxrss`, which never falls, so there each part includes the parts before
    it. (On Linux `ru_maxrss` would also include the process that started this one.)
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            self.source = "allocated on the GPU (torch.cuda.max_memory_allocated)"
        elif self._clear():
            self.source = "resident memory of the process (VmHWM)"
        else:
            self.source = "resident memory of the process so far (ru_maxrss)"

    def reset(self) -> None:
        """Forget the peak so far, and free what is cached but not in use."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self._clear()

    def read(self) -> int:
        """Bytes at the peak since the last reset."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        if _CLEAR.exists():
            for line in _STATUS.read_text().splitlines():
                if line.startswith("VmHWM"):
                    return int(line.split()[1]) * 1024
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024  # bytes there, kilobytes elsewhere

    @staticmethod
    def _clear() -> bool:
        try:
            _CLEAR.write_text("5")  # "reset the peak resident set size", proc(5)
        except OSError:
            return False
        return True
