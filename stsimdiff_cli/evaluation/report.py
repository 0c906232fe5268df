"""What `stsimdiff bench` and `stsimdiff eval` report of a run: two forms of JSON, made of the same rows.

A report begins with the request: everything that decides its answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from .. import __version__
from ..models.families import open_family
from ..models.loading.runtime import pick_device
from ..storage.atomic import save_json
from . import paper_results
from .answering import Settings
from .controls import NO_VIDEO
from .plan import Plan
from .report_parts import Json, constant, interval_of, origin, sittings
from .run import Failure
from .samples_log import SamplesLog
from .scores import Row, Scores
from .tables import BENCH, EVAL, tables
from .tasks.base import Benchmark, Sample, Task, by_video
from .text_table import save_markdown
from .variants import BASELINE, REFERENCE

REPORT, TABLES = "report.json", "tables.md"


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
        **settings.size.stated,
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
        **settings.size.stated,
    }


def bench_report(request: Json, task: Task, samples: list[Sample], plan: Plan, log: SamplesLog) -> Json:
    """Estimates for every cell, and the answers about every clip that differ from what was expected."""
    kinds = dict.fromkeys(sample.groups["kind"] for sample in samples)
    parts = {**task.columns, **{f"kind {kind}": {"kind": (kind,)} for kind in kinds}}
    scores = Scores(task, samples, plan, log, parts, request["seed"], lone=True)
    blind = {label: asdict(each) for label, each in scores.accuracies(NO_VIDEO).items()} if scores.labelled else None
    return {
        **request,
        "format": BENCH,
        **origin(request),
        "clips": len(by_video(samples)),
        "asked": len(samples),
        "interval": interval_of("clips"),
        "methods": plan.methods,
        "ablation": plan.ablation,
        "sweep": plan.sweep,
        "rows": [_bench_row(scores.row(cell)) for cell in plan.cells()],
        "blind": blind,
        "constant": constant(scores.bundles, parts) if scores.labelled else None,
        "sittings": sittings(scores),
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
        **origin(request),
        "videos": len(by_video(answered)),
        "questions": len(samples),
        "answered": len(answered),
        "labelled": len(scores.labelled),
        "failures": [asdict(failure) for failure in failures],
        "interval": interval_of("videos"),
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


def _bench_row(row: Row) -> Json:
    """A row as JSON; the only difference is that from the reference."""
    fields = asdict(row)
    fields["difference"] = None if row.method == BASELINE else fields["difference"].get(REFERENCE)
    return {name: value for name, value in fields.items() if name not in ("without_letter", "groups")}


def _eval_row(row: Row) -> Json:
    """A row as JSON; vanilla is not compared with itself."""
    fields = asdict(row) | ({"of_vanilla": None} if row.method == BASELINE else {})
    return {name: value for name, value in fields.items() if name not in ("coverage", "event_recall", "agreement")}
