"""Scores of a run with intervals: what the paper's tables show, and everything below it.

Questions about one video share its tokens, so they are not independent: whole videos are drawn (bench/statistics.py).
All estimates share their draws, so that differences between methods are paired.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np

from ..machine import describe
from ..models.loading.runtime import pick_device
from .bootstrap import DRAWS, LEVEL, Bootstrap, Numbers, percent
from .plan import BASELINE, REFERENCE, Plan
from .run import Failure, by_video
from .samples_log import Line, Lines
from .tasks.base import Item, Task

Cell = tuple[str, float]
_SEED = 0  # of the draws


def make_report(
    request: dict[str, Any], task: Task, items: list[Item], plan: Plan, lines: Lines, failures: list[Failure]
) -> dict[str, Any]:
    """Estimates for every method and ratio over the questions that were answered.

    Questions without a public label count as asked; estimates are null if there are no others.
    """
    left_out = {failure.video for failure in failures}
    answered = [item for item in items if item.video not in left_out]
    labelled = [item for item in answered if item.answer is not None]
    cells = [(method, float(ratio)) for method, ratio in plan.cells()]
    cells.sort(key=lambda cell: (cell[0] != BASELINE, cell[1]))  # stable: methods as they were named
    scores = _Scores(labelled, lines)
    return {
        **request,
        "title": task.title,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(pick_device(request["device"])),
        "videos": len(by_video(answered)),
        "questions": len(items),
        "answered": len(answered),
        "labelled": len(labelled),
        "failures": [asdict(failure) for failure in failures],
        "interval": f"{100 * LEVEL:g} % percentile bootstrap over videos, {DRAWS} draws",
        "no_letter": "a guess, the same in every run" if task.guesses else "wrong",
        "columns": list(task.columns),
        "methods": plan.methods,
        "rows": [_row(cell, [lines[*cell, item.id] for item in answered], task, scores, cells) for cell in cells],
    }


class _Scores:
    """Right and asked questions of every video, for any cell and any part of the questions."""

    def __init__(self, items: list[Item], lines: Lines) -> None:
        self.items, self.lines = items, lines
        self.number = {name: i for i, name in enumerate(by_video(items))}
        self.bootstrap = Bootstrap.over(len(self.number), _SEED) if items else None

    def counts(self, cell: Cell, wanted: Callable[[Item], bool]) -> tuple[Numbers, Numbers]:
        """Right and asked (videos,)."""
        right, asked = np.zeros(len(self.number)), np.zeros(len(self.number))
        for item in filter(wanted, self.items):
            right[self.number[item.video]] += bool(self.lines[*cell, item.id].right)
            asked[self.number[item.video]] += 1
        return right, asked

    def estimate(self, above: Numbers, below: Numbers) -> dict[str, float | None]:
        """A share in percent with its interval; one video has none."""
        assert self.bootstrap is not None
        found = percent(self.bootstrap.ratio(above, below))
        return found if (below > 0).sum() > 1 else {**found, "low": None, "high": None}

    def accuracy(self, cell: Cell, wanted: Callable[[Item], bool]) -> dict[str, Any]:
        """Percent of some questions answered rightly."""
        right, asked = self.counts(cell, wanted)
        return {"right": int(right.sum()), "asked": int(asked.sum()), **self.estimate(right, asked)}


def _everything(_: Item) -> bool:
    return True


def _in(group: str, value: str) -> Callable[[Item], bool]:
    return lambda item: item.groups.get(group) == value


def _row(cell: Cell, lines: list[Line], task: Task, scores: _Scores, cells: list[Cell]) -> dict[str, Any]:
    """What came out for a method at a ratio; `lines` are all its answers."""
    method, ratio = cell
    row: dict[str, Any] = {
        "method": method,
        "ratio": ratio,
        "kept": _span([line.kept for line in lines]),
        "tokens": _span([line.tokens for line in lines]),
        "without_letter": sum(not line.extracted for line in lines),
        "seconds": _median_seconds(lines),
        "accuracy": None,
        "groups": None,
        "of_vanilla": None,
        "difference": {},
    }
    if not scores.items:
        return row
    row["accuracy"] = {
        label: scores.accuracy(cell, _everything if part is None else _in(*part))
        for label, part in task.columns.items()
    }
    names = sorted({(group, value) for item in scores.items for group, value in item.groups.items()})
    row["groups"] = {}
    for group, value in names:
        row["groups"].setdefault(group, {})[value] = scores.accuracy(cell, _in(group, value))
    right, asked = scores.counts(cell, _everything)
    for other in ((REFERENCE, ratio), (BASELINE, 1.0)):
        if other in cells and other[0] != method:
            theirs, _ = scores.counts(other, _everything)
            row["difference"][other[0]] = scores.estimate(right - theirs, asked)
            if other[0] == BASELINE:
                row["of_vanilla"] = scores.estimate(right, theirs)
    return row


def _span(numbers: list[int]) -> list[int] | None:
    return [min(numbers), max(numbers)] if numbers else None


def _median_seconds(lines: list[Line]) -> dict[str, float]:
    """The median of each step: of a video once, of an answer for each question."""
    videos = {line.video: line for line in lines}
    found = {
        step: statistics.median(line.seconds[step] for line in videos.values())
        for step in ("encode", "select", "prefill")
        if videos
    }
    return found | ({"answer": statistics.median(line.seconds["answer"] for line in lines)} if lines else {})
