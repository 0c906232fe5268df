"""What `stsimdiff bench` and `stsimdiff eval` report of a run: two forms of JSON, made of the same rows.

A report begins with the request: everything that decides its answers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .. import __version__
from ..machine import describe
from ..models.families import open_family
from ..models.loading.runtime import pick_device
from ..storage.atomic import save_json
from . import paper_results
from .answering import Settings
from .bootstrap import DRAWS, LEVEL
from .plan import WHOLE, Plan
from .run import NO_VIDEO, Failure
from .samples_log import SamplesLog
from .scores import Row, Scores
from .tables import BENCH, EVAL, tables
from .tasks.base import Benchmark, Part, Sample, Task, by_video
from .text_table import save_markdown
from .variants import BASELINE, REFERENCE

REPORT, TABLES = "report.json", "tables.md"
Json = dict[str, Any]


def bench_request(
    plan: Plan, settings: Settings, seed: int, questions: Iterable[str] = (), videos: Iterable[Path] = ()
) -> Json:
    """All that decides the responses about a clip; ModelError if there is no such model."""
    return {
        "format": BENCH,
        "stsimdiff": __version__,
        "model": settings.model,
        "fingerprint": open_family(settings.model).checkpoint.fingerprint,
        "device": str(pick_device(settings.runtime.device)),
        "dtype": settings.runtime.dtype,
        "max_new_tokens": settings.max_new_tokens,
        "frames": settings.frames,
        "seed": seed,
        "questions": list(questions),
        "videos": [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in videos],
        "cells": [list(cell) for cell in plan.cells()],
    }


def eval_request(task: Benchmark, settings: Settings, subtitles: bool) -> Json:
    """All that decides a response besides the question, the variant and the ratio; ModelError as above."""
    family = open_family(settings.model, settings.revision)
    return {
        "format": EVAL,
        "stsimdiff": __version__,
        "benchmark": task.name,
        "subtitles": subtitles,
        "model": settings.model,
        "fingerprint": family.checkpoint.fingerprint,
        "paper_model": paper_results.which(family),
        "frames": settings.frames,
        "max_new_tokens": settings.max_new_tokens,
        "device": pick_device(settings.runtime.device).type,
        "dtype": settings.runtime.dtype,
        "attention": settings.runtime.attention,
        "quantize": settings.runtime.quantize,
    }


def bench_report(request: Json, task: Task, samples: list[Sample], plan: Plan, log: SamplesLog) -> Json:
    """Estimates for every cell, and the answers about every clip that differ from what was expected."""
    kinds = dict.fromkeys(sample.groups["kind"] for sample in samples)
    parts = {**task.columns, **{f"kind {kind}": ("kind", kind) for kind in kinds}}
    scores = Scores(task, samples, plan, log, parts, request["seed"], lone=True)
    videos = by_video(samples)
    blind = {label: asdict(each) for label, each in scores.accuracies(NO_VIDEO).items()} if scores.labelled else None
    return {
        **request,
        "format": BENCH,
        **_origin(request),
        "clips": len(videos),
        "asked": len(samples),
        "interval": _interval("clips"),
        "methods": plan.methods,
        "ablation": plan.ablation,
        "sweep": plan.sweep,
        "rows": [_bench_row(scores.row(cell)) for cell in plan.cells()],
        "blind": blind,
        "constant": constant(samples, parts) if scores.labelled else None,
        "sittings": [_other_answers(name, asked, scores) for name, asked in videos.items()],
    }


def eval_report(
    request: Json, task: Benchmark, samples: list[Sample], plan: Plan, log: SamplesLog, failures: list[Failure]
) -> Json:
    """Estimates for every method and ratio over the questions that were answered.

    Questions without a public label count as asked; estimates are null if there are no others.
    """
    left_out = {failure.video for failure in failures}
    answered = [sample for sample in samples if sample.video not in left_out]
    scores = Scores(task, answered, plan, log, task.columns)
    cells = sorted(plan.cells(), key=lambda cell: (cell[0] != BASELINE, float(cell[1])))  # stable: as they were named
    return {
        **request,
        "title": task.title,
        **_origin(request),
        "videos": len(by_video(answered)),
        "questions": len(samples),
        "answered": len(answered),
        "labelled": len(scores.labelled),
        "failures": [asdict(failure) for failure in failures],
        "interval": _interval("videos"),
        "no_letter": "a guess, the same in every run" if task.guesses else "wrong",
        "columns": list(task.columns),
        "methods": plan.methods,
        "rows": [_eval_row(scores.row(cell)) for cell in cells],
    }


def save_results(
    folder: Path, report: Json, task: Benchmark, samples: list[Sample], plan: Plan, log: SamplesLog
) -> None:
    """Write report.json, tables.md and, where labels are not public, submission files. Nothing leaves the machine."""
    save_json(folder / REPORT, report, indent=2)
    save_markdown(folder / TABLES, tables(report))
    if all(sample.answer is not None for sample in samples):
        return
    for method, ratio in plan.cells():
        keys = [(method, float(ratio), sample.id) for sample in samples]
        name = re.sub(r"[^\w.+-]+", "-", f"submission-{method}-{ratio}")
        letters = {key[-1]: log[key].parsed for key in keys if key in log}
        save_json(folder / f"{name}.json", task.submission(letters))


def constant(samples: list[Sample], parts: dict[str, Part]) -> dict[str, float]:
    """Percent that the best single answer to each kind of question would reach: what guessing gives."""
    by_kind: dict[str, Counter[str]] = {}
    for sample in samples:
        by_kind.setdefault(sample.groups["kind"], Counter())[sample.answer or ""] += 1
    percents = {}
    for label, part in parts.items():
        answers = [counter for kind, counter in by_kind.items() if part is None or kind in part[1:]]
        if answers:
            percents[label] = 100 * sum(max(c.values()) for c in answers) / sum(c.total() for c in answers)
    return percents


def _origin(request: Json) -> Json:
    """When and where a report was made."""
    machine = describe(pick_device(request["device"]))
    return {"date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine}


def _interval(what: str) -> str:
    return f"{100 * LEVEL:g} % percentile bootstrap over {what}, {DRAWS} draws"


def _bench_row(row: Row) -> Json:
    """A row as JSON; the only difference is that from the reference."""
    fields = asdict(row)
    fields["difference"] = None if row.method == BASELINE else fields["difference"].get(REFERENCE)
    return {name: value for name, value in fields.items() if name not in ("without_letter", "groups")}


def _eval_row(row: Row) -> Json:
    """A row as JSON; vanilla is not compared with itself."""
    fields = asdict(row) | ({"of_vanilla": None} if row.method == BASELINE else {})
    return {name: value for name, value in fields.items() if name not in ("coverage", "event_recall", "agreement")}


def _other_answers(name: str, samples: list[Sample], scores: Scores) -> Json:
    """A clip's questions, and for every cell the answers that differ from the right one (or from all tokens')."""
    given = {cell: [scores.response(cell, sample).raw for sample in samples] for cell in scores.plan.cells()}
    expected = [
        raw if sample.answer is None else sample.answer for sample, raw in zip(samples, given[WHOLE], strict=True)
    ]
    asked = zip(samples, expected, strict=True)
    return {
        "name": name,
        "questions": [[sample.groups["kind"], sample.prompt, answer] for sample, answer in asked],
        "other_answers": [
            [*cell, {str(i): raw for i, raw in enumerate(raws) if not scores.task.same(raw, expected[i])}]
            for cell, raws in given.items()
        ],
    }
