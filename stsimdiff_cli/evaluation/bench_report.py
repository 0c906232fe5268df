"""Runs the clips of a bench and makes a report of what came out."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import __version__
from ..machine import describe
from ..models.families import open_family
from ..models.loading.runtime import pick_device
from ..synthetic.questions import GROUPS
from .bootstrap import DRAWS, LEVEL, Bootstrap, Numbers, accuracy, percent
from .exams import Exam, Item
from .journal import Journal
from .plan import BASELINE, REFERENCE, Plan
from .sitting import Examiner, Sitting

FORMAT = "stsimdiff.bench/1"
ALL = "all"
#: (BASELINE, "1"): the cell that all others are held against.
WHOLE = (BASELINE, "1")


def request_of(
    plan: Plan, examiner: Examiner, frames: int, seed: int, questions: tuple[str, ...] = (), videos: Iterable[Path] = ()
) -> dict[str, Any]:
    """All that decides a clip's outcome: two benches with the same request may share finished clips."""
    return {
        "format": FORMAT,
        "stsimdiff": __version__,
        "model": examiner.model,
        "fingerprint": open_family(examiner.model).checkpoint.fingerprint,
        "device": str(pick_device(examiner.runtime.device)),
        "dtype": examiner.runtime.dtype,
        "max_new_tokens": examiner.max_new_tokens,
        "frames": frames,
        "seed": seed,
        "questions": list(questions),
        "videos": [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in videos],
        "cells": [list(cell) for cell in plan.cells()],
    }


def run(
    exams: list[Exam],
    plan: Plan,
    examiner: Examiner,
    journal: Journal,
    on_clip: Callable[[int], None] = lambda _: None,
) -> list[Sitting]:
    """The sittings of all exams, in order; those in the journal are not repeated. `on_clip` gets the number done."""
    for count, exam in enumerate(exams):
        on_clip(count)
        if exam.name not in journal.sittings:
            journal.add(examiner.sit(exam, plan))
    on_clip(len(exams))
    return [journal.sittings[exam.name] for exam in exams]


def make_report(request: dict[str, Any], plan: Plan, sittings: list[Sitting]) -> dict[str, Any]:
    """Estimates for every cell, and the answers of every clip that differ from what was expected."""
    bootstrap = Bootstrap.over(len(sittings), request["seed"])
    items = [item for sitting in sittings for item in sitting.items]
    labelled = all(item.answer is not None for item in items)
    tables = {cell: marks(sittings, *cell) for cell in plan.cells()}
    rows = [_row(cell, sittings, tables, bootstrap, labelled) for cell in plan.cells()]
    return {
        **request,
        "format": FORMAT,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(torch.device(request["device"])),
        "clips": len(sittings),
        "asked": len(items),
        "interval": f"{100 * LEVEL:g} % percentile bootstrap over clips, {DRAWS} draws",
        "methods": plan.methods,
        "ablation": plan.ablation,
        "sweep": plan.sweep,
        "rows": rows,
        "blind": estimates(bootstrap, sittings, marks(sittings)) if labelled else None,
        "constant": constant(items) if labelled else None,
        "sittings": [_wrong(sitting) for sitting in sittings],
    }


def marks(sittings: list[Sitting], name: str | None = None, ratio: str = "") -> list[list[bool]]:
    """Whether each answer of each clip is right, for a cell or (None) for the questions alone.

    Without right answers: whether it is the answer that all tokens give.
    """
    found = []
    for sitting in sittings:
        given = sitting.blind if name is None else sitting.cells[name, ratio].answers
        whole = sitting.cells[WHOLE].answers
        expected = [w if item.answer is None else item.answer for item, w in zip(sitting.items, whole, strict=True)]
        found.append([same(a, b) for a, b in zip(given, expected, strict=True)])
    return found


def same(given: str, expected: str) -> bool:
    """Whether two answers are equal but for case, blanks and a full stop."""
    first, second = (" ".join(text.lower().rstrip(". ").split()) for text in (given, expected))
    return first == second


def counts(sittings: list[Sitting], table: list[list[bool]], kinds: tuple[str, ...] | None) -> tuple[Numbers, Numbers]:
    """Right and asked (clips,) of the questions of some kinds (None: of all)."""
    right = np.zeros(len(sittings))
    asked = np.zeros(len(sittings))
    for i, (sitting, row) in enumerate(zip(sittings, table, strict=True)):
        for item, good in zip(sitting.items, row, strict=True):
            if kinds is None or item.kind in kinds:
                right[i] += good
                asked[i] += 1
    return right, asked


def estimates(bootstrap: Bootstrap, sittings: list[Sitting], table: list[list[bool]]) -> dict[str, Any]:
    """Accuracy over all questions, by group and by kind."""
    kinds = dict.fromkeys(item.kind for sitting in sittings for item in sitting.items)
    wanted: dict[str, tuple[str, ...] | None] = {ALL: None, **GROUPS, **{f"kind {k}": (k,) for k in kinds}}
    return {key: accuracy(bootstrap, *counts(sittings, table, kind)) for key, kind in wanted.items()}


def constant(items: list[Item]) -> dict[str, float]:
    """Percent that the best single answer to each kind of question would reach: what guessing gives."""
    by_kind: dict[str, Counter[str]] = {}
    for item in items:
        by_kind.setdefault(item.kind, Counter())[item.answer or ""] += 1
    wanted: dict[str, tuple[str, ...]] = {ALL: tuple(by_kind), **GROUPS, **{f"kind {k}": (k,) for k in by_kind}}
    found = {}
    for key, kinds in wanted.items():
        answers = [by_kind[kind] for kind in kinds if kind in by_kind]
        if answers:
            found[key] = 100 * sum(max(c.values()) for c in answers) / sum(c.total() for c in answers)
    return found


def _row(
    cell: tuple[str, str],
    sittings: list[Sitting],
    tables: dict[tuple[str, str], list[list[bool]]],
    bootstrap: Bootstrap,
    labelled: bool,
) -> dict[str, Any]:
    """What came out for a contender at a ratio."""
    name, ratio = cell
    outcomes = [sitting.cells[cell] for sitting in sittings]
    right, asked = counts(sittings, tables[cell], None)
    row: dict[str, Any] = {
        "method": name,
        "ratio": float(ratio),
        "kept": [min(o.kept for o in outcomes), max(o.kept for o in outcomes)],
        "tokens": [min(s.tokens for s in sittings), max(s.tokens for s in sittings)],
        "seconds": {step: statistics.median(o.seconds[step] for o in outcomes) for step in ("select", "answer")},
        "coverage": percent(bootstrap.ratio(*_mean(o.coverage for o in outcomes))),
        "event_recall": percent(bootstrap.ratio(*_mean(o.event_recall for o in outcomes))),
        "agreement": percent(bootstrap.ratio(*_agreement(sittings, cell))),
        "accuracy": None,
        "of_vanilla": None,
        "difference": None,
    }
    if not labelled:
        return row
    row["accuracy"] = estimates(bootstrap, sittings, tables[cell])
    row["of_vanilla"] = percent(bootstrap.ratio(right, counts(sittings, tables[WHOLE], None)[0]))
    other = (REFERENCE, ratio)
    if name not in (REFERENCE, BASELINE) and other in tables:
        row["difference"] = percent(bootstrap.ratio(right - counts(sittings, tables[other], None)[0], asked))
    return row


def _mean(values: Any) -> tuple[Numbers, Numbers]:
    """Numerators and denominators of a mean over clips; clips without the figure count for nothing."""
    found = list(values)
    known = np.array([value is not None for value in found], dtype=float)
    return np.array([0.0 if value is None else value for value in found]), known


def _agreement(sittings: list[Sitting], cell: tuple[str, str]) -> tuple[Numbers, Numbers]:
    """Questions whose answer is the one that all tokens give, and questions asked (clips,)."""
    equal = [
        sum(same(a, b) for a, b in zip(s.cells[cell].answers, s.cells[WHOLE].answers, strict=True)) for s in sittings
    ]
    return np.array(equal, dtype=float), np.array([len(s.items) for s in sittings], dtype=float)


def _wrong(sitting: Sitting) -> dict[str, Any]:
    """A clip's questions, and for every cell the answers that differ from the right one (or from all tokens')."""
    whole = sitting.cells[WHOLE].answers
    expected = [w if item.answer is None else item.answer for item, w in zip(sitting.items, whole, strict=True)]
    return {
        "name": sitting.name,
        "questions": [[item.kind, item.text, answer] for item, answer in zip(sitting.items, expected, strict=True)],
        "other_answers": [
            [name, ratio, {str(i): a for i, a in enumerate(o.answers) if not same(a, expected[i])}]
            for (name, ratio), o in sitting.cells.items()
        ],
    }
