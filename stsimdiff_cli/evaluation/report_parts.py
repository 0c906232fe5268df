"""What the reports of several forms have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from ..machine import describe
from ..models.loading.runtime import pick_device
from .bootstrap import DRAWS, LEVEL
from .plan import WHOLE
from .scores import Scores
from .tasks.base import Bundle, Part, Sample, by_video

Json = dict[str, Any]


def constant(bundles: Iterable[Bundle], parts: Mapping[str, Part]) -> dict[str, float]:
    """Percent that the best single answer to each kind of question would reach: what guessing gives.

    A bundle whose questions have different answers is never right.
    """
    known = list(bundles)
    percents = {}
    for label, part in parts.items():
        by_kind: dict[str, Counter[str]] = {}
        asked = 0
        for bundle in known:
            if all(bundle.groups.get(group) in values for group, values in part.items()):
                asked += 1
                answers = {sample.answer or "" for sample in bundle.samples}
                by_kind.setdefault(bundle.groups["kind"], Counter()).update(answers if len(answers) == 1 else ())
        if asked:
            percents[label] = 100 * sum(max(each.values(), default=0) for each in by_kind.values()) / asked
    return percents


def origin(request: Json) -> Json:
    """When and where a report was made."""
    machine = describe(pick_device(request["device"]))
    return {"date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine}


def interval_of(what: str) -> str:
    """How intervals were found."""
    return f"{100 * LEVEL:g} % percentile bootstrap over {what}, {DRAWS} draws"


def sittings(scores: Scores) -> list[Json]:
    """Every clip's questions, and for every cell the answers that differ from the right one (or from all tokens')."""
    return [_other_answers(name, asked, scores) for name, asked in by_video(scores.samples).items()]


def _other_answers(name: str, samples: list[Sample], scores: Scores) -> Json:
    given = {cell: [scores.response(cell, sample).raw for sample in samples] for cell in scores.plan.cells()}
    expected = [
        raw if sample.answer is None else sample.answer for sample, raw in zip(samples, given[WHOLE], strict=True)
    ]
    asked = zip(samples, expected, strict=True)
    return {
        "name": name,
        "questions": [[sample.groups["kind"], sample.prompt, answer] for sample, answer in asked],
        "other_answers": [
            [
                *cell,
                {
                    str(i): raw
                    for i, (raw, sample) in enumerate(zip(raws, samples, strict=True))
                    if not scores.task.same(scores.task.parse(raw, sample), expected[i])
                },
            ]
            for cell, raws in given.items()
        ],
    }
