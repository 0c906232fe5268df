"""The machine that measurements were made on."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def describe(device: torch.device | None = None) -> dict[str, Any]:
    """Processor, memory and versions. With a `device`, torch is imported for the GPU and the threads in use."""
    machine: dict[str, Any] = {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": _memory(),
        "gpu": None,
        "gpu_memory_bytes": None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
        "transformers": metadata.version("transformers"),
    }
    if device is not None:
        import torch

        machine |= {"device": device.type, "threads": torch.get_num_threads(), "cuda": torch.version.cuda}
        if device.type == "cuda":
            gpu = torch.cuda.get_device_properties(device)
            machine |= {"gpu": gpu.name, "gpu_memory_bytes": gpu.total_memory}
    return machine


def short(machine: dict[str, Any]) -> str:
    """The machine in a few words: its GPU, or its processor and threads."""
    if machine["gpu"]:
        return f"{machine['gpu']}, {machine['gpu_memory_bytes'] / 1e9:.0f} GB"
    threads = machine.get("threads") or machine["cores"]
    return f"{machine['cpu']}, {threads} thread{'s' * (threads != 1)}"


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows
        return None


def available_memory() -> int:
    """Bytes that may still be allocated without swapping, within the limit of a container; a guess where unknown."""
    free = (_memory() or 8 << 30) // 2
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
        group = Path("/sys/fs/cgroup")
        limit, used = (group / name for name in ("memory.max", "memory.current"))
        return max(min(free, int(limit.read_text()) - int(used.read_text())), 0)
    except (OSError, ValueError, StopIteration):  # no Linux, or no limit
        return free
