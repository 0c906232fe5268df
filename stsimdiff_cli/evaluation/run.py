"""Asks every question of a task, for every variant at every ratio; a video is encoded once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from .. import pipeline
from ..errors import VideoError
from ..models.question import check_text
from ..records import VideoTokens
from .answering import Answerer, Answers, Known, Settings, working
from .controls import CONTROLS, NO_VIDEO
from .fidelity import coverage, event_recall, largest_changes
from .plan import Cell, Plan
from .samples_log import Response, SamplesLog
from .tasks.base import Sample, Task, by_video


@dataclass(frozen=True)
class Failure:
    """A video that could not be used, why, and how many questions are left out with it."""

    video: str
    error: str
    questions: int


@dataclass
class Evaluator:
    """Asks the questions of a task that have no response in the log yet, and adds the responses to it."""

    task: Task
    plan: Plan
    settings: Settings
    log: SamplesLog
    answerer: Answerer = field(init=False)

    def __post_init__(self) -> None:
        self.answerer = Answerer(self.settings)

    def missing(self, samples: Iterable[Sample]) -> dict[Cell, list[Sample]]:
        """The questions that have no response yet, by variant and ratio; {} if all is done."""
        cells = [*self.plan.cells(), *self.task.controls]
        missing = {
            (name, ratio): [sample for sample in samples if (name, float(ratio), sample.id) not in self.log]
            for name, ratio in cells
        }
        return {cell: some for cell, some in missing.items() if some}

    def done(self, samples: list[Sample]) -> int:
        """The number of videos about which nothing is missing."""
        return sum(not self.missing(asked) for asked in by_video(samples).values())

    def run(
        self,
        samples: list[Sample],
        on_video: Callable[[int], None] = lambda _: None,
        on_failure: Callable[[Failure], None] | None = None,
    ) -> list[Failure]:
        """Ask what is missing; `on_video` gets the number of videos done.

        A video that is missing or broken is reported to `on_failure` and left out; with None, its VideoError is raised.
        """
        for sample in samples:
            check_text(sample.prompt)
        failures = []
        videos = by_video(samples)
        for count, (name, asked) in enumerate(videos.items()):
            if not self.missing(asked):
                continue
            on_video(count)
            try:
                self.log.add(self.ask(asked))
            except VideoError as error:
                if on_failure is None:
                    raise
                failures.append(Failure(name, str(error), len(asked)))
                on_failure(failures[-1])
        on_video(len(videos))
        return failures

    def ask(self, samples: list[Sample]) -> list[Response]:
        """The missing responses about one video; VideoError if it cannot be encoded."""
        context = self.answerer.context()
        tokens = self.task.encode(samples[0], self.settings, self.plan.evidence, context)
        encode = working(context.timer)
        changes = largest_changes(tokens) if self.task.fidelity else None
        known: Known | None = {} if self.task.fidelity else None
        responses = []
        for cell, asked in self.missing(samples).items():
            for numbers, answers in self._answers(cell, tokens, asked, known):
                more: dict[str, Any] = {"kept": answers.kept, "tokens": tokens.grid.tokens}
                if changes is not None and answers.video is not None:
                    more["coverage"] = coverage(tokens.features.tensor(), answers.video.features.tensor())
                    more["event_recall"] = event_recall(changes, answers.video.index)
                seconds = {"encode": encode, "select": answers.select, "prefill": answers.prefill}
                for number, answer in zip(numbers, answers.answers, strict=True):
                    seconds = {**seconds, "answer": answer.seconds["share"]}
                    if answer.alive_per_layer:
                        more["live"] = list(answer.alive_per_layer)
                    responses.append(self._response(cell, asked[number], answer.text, seconds=seconds, **more))
        return responses

    def _answers(
        self, cell: Cell, tokens: VideoTokens, samples: list[Sample], known: Known | None
    ) -> Iterable[tuple[list[int], Answers]]:
        prompts = [sample.prompt for sample in samples]
        everything = list(range(len(prompts)))
        if cell == NO_VIDEO:
            return [(everything, self.answerer.without_video(tokens, prompts))]
        if cell in CONTROLS:
            shown = self.task.encode_control(cell, samples[0], self.settings, self.answerer.context())
            answers = self.answerer.answer(pipeline.all_tokens(shown), prompts)
            return [(everything, replace(answers, video=None))]  # fidelity is that of methods
        name, ratio = cell
        return self.answerer.answers(tokens, self.plan.variants[name], ratio, prompts, known)

    def _response(self, cell: Cell, sample: Sample, raw: str, **more: Any) -> Response:
        name, ratio = cell
        parsed = self.task.parse(raw, sample)
        return Response(
            id=sample.id,
            video=sample.video,
            method=name,
            ratio=float(ratio),
            prompt=sample.prompt,
            raw=raw,
            parsed=parsed,
            extracted=bool(self.task.extract(raw, sample)),
            answer=sample.answer,
            right=None if sample.answer is None else self.task.same(parsed, sample.answer),
            **more,
        )
