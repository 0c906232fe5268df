"""One trial against the program, as every machine of this folder yields them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Trial:
    """What was tried: its class (a row of the table), a name that repeats it (with its seed), and what went wrong."""

    kind: str
    name: str
    failure: str | None = None


def tally(trials: Iterable[Trial]) -> dict[str, tuple[int, int]]:
    """How many were tried and how many failed, by class in order of appearance."""
    tried: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for trial in trials:
        tried[trial.kind] += 1
        failed[trial.kind] += trial.failure is not None
    return {kind: (count, failed[kind]) for kind, count in tried.items()}
