"""One clip: encoded once, compressed by every contender at every ratio, and questioned."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from .. import pipeline
from ..models.inference.model_cache import ModelCache
from ..models.loading.runtime import Runtime
from ..records import CompressedVideo, VideoTokens
from .answering import Respondent, groups
from .exams import Exam, Item
from .fidelity import coverage, event_recall, largest_changes
from .plan import INSIDE, Contender, Plan


@dataclass(frozen=True)
class Outcome:
    """What a contender did with a clip at a ratio.

    kept tokens; an answer to each question; coverage and event_recall (means over questions, if each has its own
    tokens; null inside the LLM, event_recall also without changes); seconds to "select" the tokens and to "answer"
    (prefill and all questions).
    """

    kept: int
    answers: list[str]
    coverage: float | None
    event_recall: float | None
    seconds: dict[str, float]


@dataclass(frozen=True)
class Sitting:
    """All about one clip. blind holds the answers to the questions alone, without any visual token."""

    name: str
    tokens: int
    items: tuple[Item, ...]
    blind: list[str]
    cells: dict[tuple[str, str], Outcome]


@dataclass
class Examiner:
    """Holds what stays the same from clip to clip; loads the model once."""

    model: str
    runtime: Runtime = Runtime()
    max_new_tokens: int = 32
    models: ModelCache = field(default_factory=ModelCache)

    def __post_init__(self) -> None:
        self.respondent = Respondent(self.runtime, self.max_new_tokens, self.models)

    def sit(self, exam: Exam, plan: Plan) -> Sitting:
        """Measure every cell of the plan on one clip."""
        context = pipeline.Context(self.models)
        tokens, items = exam.open(self.model, runtime=self.runtime, evidence=plan.evidence, context=context)
        known: dict[bytes, tuple[list[str], float]] = {}
        changes = largest_changes(tokens)
        cells = {}
        for name, ratio in plan.cells():
            contender = plan.contenders[name]
            if contender.form == INSIDE:
                cells[name, ratio] = self._inside(tokens, items, contender, ratio)
                continue
            parts = [
                self._measure(tokens, tuple(items[i] for i in numbers), contender, ratio, prompt, changes, known)
                for numbers, prompt in groups(contender, [item.text for item in items])
            ]
            cells[name, ratio] = _joined(parts)
        everything = pipeline.all_tokens(tokens)
        nothing = replace(everything, **_no_tokens(everything))
        blind, _ = self._answer(nothing, items)
        return Sitting(exam.name, tokens.grid.tokens, items, blind, cells)

    def _measure(
        self,
        tokens: VideoTokens,
        items: tuple[Item, ...],
        contender: Contender,
        ratio: str,
        prompt: str | None,
        changes: Tensor,
        known: dict[bytes, tuple[list[str], float]],
    ) -> Outcome:
        video, seconds = self.respondent.select(tokens, contender, ratio, prompt)
        key = _fingerprint(video, items)
        if key not in known:  # the same tokens get the same answers: contenders often agree, at ratio 1 all of them
            known[key] = self._answer(video, items)
        answers, answering = known[key]
        return Outcome(
            kept=len(video.index),
            answers=answers,
            coverage=coverage(tokens.features.tensor(), video.features.tensor()),
            event_recall=event_recall(changes, video.index),
            seconds={"select": seconds, "answer": answering},
        )

    def _answer(self, video: CompressedVideo, items: tuple[Item, ...]) -> tuple[list[str], float]:
        """The answer to each question, and the seconds that prefill and questions took."""
        replies = self.respondent.answer(video, [item.text for item in items])
        return replies.texts, replies.answering

    def _inside(self, tokens: VideoTokens, items: tuple[Item, ...], contender: Contender, ratio: str) -> Outcome:
        """All tokens enter with every question, and are cut between the LLM's layers."""
        replies = self.respondent.inside(tokens, contender, ratio, [item.text for item in items])
        return Outcome(replies.kept, replies.texts, None, None, {"select": 0.0, "answer": replies.answering})


def _no_tokens(video: CompressedVideo) -> dict[str, Any]:
    """The fields of a compressed video without any visual token."""
    none = video.index[:0]
    return {
        "features": video.features.gather(none),
        "deepstack": None if video.deepstack is None else video.deepstack.gather(none),
        "index": none,
        "kind": video.kind[:0],
        "community": video.community[:0],
        "importance": None,
    }


def _fingerprint(video: CompressedVideo, items: tuple[Item, ...]) -> bytes:
    """Equal for equal tokens and questions."""
    digest = hashlib.sha256(repr(items).encode())
    for tensor in (video.index, video.features.tensor()):
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.digest()


def _joined(parts: list[Outcome]) -> Outcome:
    """Outcomes of single questions as one: answers in a row, figures as means, seconds as sums."""
    if len(parts) == 1:
        return parts[0]
    return Outcome(
        kept=parts[0].kept,
        answers=[answer for part in parts for answer in part.answers],
        coverage=_mean(part.coverage for part in parts),
        event_recall=_mean(part.event_recall for part in parts),
        seconds={name: sum(part.seconds[name] for part in parts) for name in parts[0].seconds},
    )


def _mean(values: Iterable[float | None]) -> float | None:
    """The mean of those that are known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
