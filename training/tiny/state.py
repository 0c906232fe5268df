"""States of a training on disk, the log, and what the stages share."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch


def learning_rate(step: int, steps: int, peak: float, warm: int = 40) -> float:
    """A warm-up, a plateau, and from two fifths of the steps on a cosine to a fiftieth of the peak."""
    if step < warm:
        return peak * (step + 1) / warm
    done = max(0.0, (step / steps - 0.4) / 0.6)
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


def save(path: Path, state: dict[str, Any]) -> None:
    """Writes a state next to its place, then moves it there, so that a stop never leaves half a file."""
    fresh = path.with_suffix(".saving")
    torch.save(state, fresh)
    fresh.replace(path)


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """A state."""
    return torch.load(path, map_location=device, weights_only=True)


class Clock:
    """Says when a minute of log and a few minutes of checkpoint are over, and keeps running means for the log."""

    def __init__(self, stage: str, log_seconds: float = 60.0, save_seconds: float = 240.0) -> None:
        self.stage, self.every = stage, {"log": log_seconds, "save": save_seconds}
        self.began = time.monotonic()
        self.last = {"log": self.began, "save": self.began, "test": self.began}
        self.mean: dict[str, float] = {}
        self.steps = 0

    def count(self, shown: dict[str, float]) -> None:
        """A step and its numbers."""
        self.steps += 1
        for key, value in shown.items():
            if not math.isnan(value):
                self.mean[key] = 0.95 * self.mean.get(key, value) + 0.05 * value

    def due(self, what: str, seconds: float | None = None) -> bool:
        """Whether it is time again; if so the next time is counted from now."""
        now = time.monotonic()
        if now - self.last[what] < (self.every[what] if seconds is None else seconds):
            return False
        self.last[what] = now
        return True

    def say(self, step: int, note: str = "") -> None:
        """One line of the log."""
        spent = time.monotonic() - self.began
        rate = self.steps / max(spent, 1e-9)
        numbers = " ".join(f"{k} {v:.3f}" for k, v in self.mean.items())
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        print(f"{stamp} {self.stage} {step} {spent:.0f}s {rate:.2f}/s {numbers} {note}".rstrip(), flush=True)
