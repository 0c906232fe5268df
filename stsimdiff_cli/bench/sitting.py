"""One clip: encoded once, compressed by every contender at every ratio, and questioned."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .. import pipeline
from ..models.conversation import Conversation
from ..models.shelf import Shelf
from ..records import CompressedVideo, VideoTokens
from ..timing import Stopwatch
from .exams import Exam, Item
from .fidelity import coverage, event_recall, largest_changes
from .plan import INSIDE, QUESTION, Contender, Plan


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
    device: str = "auto"
    dtype: str = "auto"
    max_new_tokens: int = 32
    shelf: Shelf = field(default_factory=lambda: Shelf(keep=True))

    def sit(self, exam: Exam, plan: Plan) -> Sitting:
        """Measure every cell of the plan on one clip."""
        where = {"device": self.device, "dtype": self.dtype, "shelf": self.shelf}
        tokens, items = exam.open(self.model, evidence=plan.evidence, **where)
        known: dict[bytes, tuple[list[str], float]] = {}
        changes = largest_changes(tokens)
        cells = {}
        for name, ratio in plan.cells():
            contender = plan.contenders[name]
            if contender.form == INSIDE:
                cells[name, ratio] = self._inside(tokens, items, contender, ratio)
                continue
            parts = [
                self._measure(tokens, some, contender, ratio, prompt, changes, known)
                for some, prompt in self._groups(contender, items)
            ]
            cells[name, ratio] = _joined(parts)
        everything = pipeline.all_tokens(tokens)
        nothing = replace(everything, features=everything.features[:0], deepstack=None, index=everything.index[:0])
        blind, _ = self._answer(nothing, items)
        return Sitting(exam.name, tokens.grid.tokens, items, blind, cells)

    @staticmethod
    def _groups(contender: Contender, items: tuple[Item, ...]) -> list[tuple[tuple[Item, ...], str | None]]:
        """Questions that share their tokens, with the prompt that importance is measured with."""
        return [((item,), item.text) for item in items] if contender.form == QUESTION else [(items, None)]

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
        watch = Stopwatch()
        video = pipeline.compress_tokens(
            tokens,
            ratio,
            contender.method,
            prompt=prompt,
            device=self.device,
            dtype=self.dtype,
            shelf=self.shelf,
            watch=watch,
        )
        key = _fingerprint(video, items)
        if key not in known:  # the same tokens get the same answers: contenders often agree, at ratio 1 all of them
            known[key] = self._answer(video, items)
        answers, seconds = known[key]
        return Outcome(
            kept=len(video.index),
            answers=answers,
            coverage=coverage(tokens.features, video.features),
            event_recall=event_recall(changes, video.index),
            seconds={"select": _working(watch), "answer": seconds},
        )

    def _answer(self, video: CompressedVideo, items: tuple[Item, ...]) -> tuple[list[str], float]:
        """The answer to each question, and the seconds that prefill and questions took."""
        watch = Stopwatch()
        conversation = pipeline.converse(video, device=self.device, dtype=self.dtype, shelf=self.shelf, watch=watch)
        return self._ask(conversation, items, watch), _working(watch)

    def _inside(self, tokens: VideoTokens, items: tuple[Item, ...], contender: Contender, ratio: str) -> Outcome:
        """All tokens enter with every question, and are cut between the LLM's layers."""
        watch = Stopwatch()
        conversation = pipeline.converse_inside(
            tokens, ratio, contender.method, device=self.device, dtype=self.dtype, shelf=self.shelf, watch=watch
        )
        answers = self._ask(conversation, items, watch)
        return Outcome(conversation.live[-1], answers, None, None, {"select": 0.0, "answer": _working(watch)})

    def _ask(self, conversation: Conversation, items: tuple[Item, ...], watch: Stopwatch) -> list[str]:
        with watch.during("answer"):
            return [conversation.ask(item.text, max_new_tokens=self.max_new_tokens).text for item in items]


def _working(watch: Stopwatch) -> float:
    """Seconds of all steps but loading, which happens once for all clips."""
    return sum(seconds for step, seconds in watch.seconds.items() if step != "load")


def _fingerprint(video: CompressedVideo, items: tuple[Item, ...]) -> bytes:
    """Equal for equal tokens and questions."""
    digest = hashlib.sha256(repr(items).encode())
    for tensor in (video.index, video.features):
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
