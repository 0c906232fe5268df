"""Jobs to profile, and made-up numbers of their cells."""

from __future__ import annotations

import gc

from stsimdiff_cli.machine import describe
from stsimdiff_cli.profiling.cell import Cell
from stsimdiff_cli.profiling.job import STAGES, Job


def make_job(**changes) -> Job:
    values = {"video": "clip.mp4", "model": "tiny", "frames": 4, "method": "vanilla", "importance": None}
    return Job(**(values | {"ratio": "0.3", "new_tokens": 3, "repeats": 2} | changes))


def cell_numbers(cold: float, warm: float, peak: int, repeats: int = 1) -> dict:
    """What a cell reports, made up. `peak` is in bytes."""
    runs = [dict.fromkeys(STAGES, 0.5) | {"importance": None, "cold": cold, "warm": warm} for _ in range(repeats)]
    return {
        "frames_decoded": 4,
        "tokens": 100,
        "kept": 30,
        "repeat_seconds": runs,
        "peak_bytes": {"encode": 1, "all": peak},
        "peak_source": "made up",
        "dtype": "float32",
        "machine": describe(),
        "source": {"name": "clip.mp4", "width": 64, "height": 36, "seconds": 2.0, "fps": 30.0},
    }


def measure(job: Job) -> dict:
    """Measure a cell in this process. What the process holds already is kept out of the cell's garbage collections."""
    gc.freeze()
    try:
        return Cell(job).measure()
    finally:
        gc.unfreeze()
