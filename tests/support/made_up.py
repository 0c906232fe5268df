"""Runs whose responses are made up, so that every number of a report can be counted in a plain way."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from stsimdiff_cli.evaluation.controls import NO_VIDEO
from stsimdiff_cli.evaluation.plan import Cell, Plan
from stsimdiff_cli.evaluation.report import bench_report
from stsimdiff_cli.evaluation.samples_log import Response, SamplesLog
from stsimdiff_cli.evaluation.tasks.base import Sample, Task
from stsimdiff_cli.evaluation.tasks.rendered_clips import RenderedClips

REQUEST = {"model": "tiny", "frames": 32, "seed": 0, "device": "cpu"}
#: Kind, question and right answer.
QUESTIONS = (
    ("count", "How many stars are there?", "two"),
    ("colour", "What colour is the ring?", "red"),
    ("what", "What happens?", "the scene changes"),
    ("when", "When does it happen?", "end"),
    ("nothing", "What flashes?", "nothing"),
)
MISTAKE = "a mistake"


def sample(clip: str, number: int, kind: str, prompt: str, answer: str | None) -> Sample:
    """A question about a clip."""
    return Sample(f"{clip}, question {number}", clip, None, prompt, (), answer, {"kind": kind})


def respond(sample: Sample, cell: Cell, raw: str, **more) -> Response:
    """An answer to it, of 3 tokens of 10, in a second for each step."""
    name, ratio = cell
    right = None if sample.answer is None else raw == sample.answer
    seconds = dict.fromkeys(("encode", "select", "prefill", "answer"), 1.0)
    figures = {"kept": 3, "tokens": 10, "seconds": seconds, "coverage": 0.5, "event_recall": 0.5}
    return Response(
        id=sample.id, video=sample.video, method=name, ratio=float(ratio), prompt=sample.prompt, raw=raw, parsed=raw,
        extracted=bool(raw), answer=sample.answer, right=right, **(figures | more),
    )  # fmt: skip


class MadeUp:
    """A bench of some clips, answered rightly at random, more often at higher ratios."""

    task = RenderedClips(12, 32, 0)

    def __init__(self, plan: Plan, clips: int = 12, questions: Sequence[tuple[str, str, str | None]] = QUESTIONS):
        self.plan, self.log = plan, SamplesLog()
        self.clips = [[sample(f"clip {i}", n, *each) for n, each in enumerate(questions)] for i in range(clips)]
        self.samples = [sample for clip in self.clips for sample in clip]
        self.cells = [*plan.cells(), NO_VIDEO]
        chance = random.Random(0)
        for clip in self.clips:
            for cell in self.cells:
                share = 0.2 if cell == NO_VIDEO else 0.3 + 0.6 * float(cell[1])
                figures = {"coverage": chance.random(), "event_recall": chance.random()}
                raws = [each.answer or "yes" if chance.random() < share else MISTAKE for each in clip]
                self.set(clip, cell, raws, **figures)

    def set(self, clip: list[Sample], cell: Cell, raws: Sequence[str], **more) -> None:
        """Give other answers to the questions about a clip."""
        self.log.add(respond(each, cell, raw, **more) for each, raw in zip(clip, raws, strict=True))

    def change(self, clip: list[Sample], cell: Cell, **more) -> None:
        """Change what is known of the responses about a clip."""
        self.log.add([replace(response, **more) for response in self.responses(cell, clip)])

    def responses(self, cell: Cell, samples: list[Sample] | None = None) -> list[Response]:
        """The responses of a cell, to some questions or to all."""
        return [self.log[cell[0], float(cell[1]), each.id] for each in samples or self.samples]

    def raws(self, cell: Cell, samples: list[Sample] | None = None) -> list[str]:
        """The same as text."""
        return [response.raw for response in self.responses(cell, samples)]

    def right(self, cell: Cell) -> int:
        """How many questions are answered rightly."""
        samples = zip(self.raws(cell), self.samples, strict=True)
        return sum(raw == each.answer for raw, each in samples)

    def report(self) -> dict:
        """The report of the bench."""
        return bench_report(REQUEST, self.task, self.samples, self.plan, self.log)


def made_up_log(task: Task, plan: Plan, share: Callable[[Sample, Cell], float]) -> SamplesLog:
    """Answers to all questions of a task, right with a chance that `share` gives for a question and a cell."""
    chance, log = random.Random(0), SamplesLog()
    for sample in task.load_samples():
        luck = chance.random()  # the same for all cells: methods differ by little on the same question
        for cell in [*plan.cells(), *task.controls]:
            right = 0.7 * luck + 0.3 * chance.random() < share(sample, cell)
            log.add([respond(sample, cell, sample.answer if right else MISTAKE)])
    return log


def rows_of(report: dict) -> dict[tuple[str, float], dict]:
    """The rows by method and ratio."""
    return {(row["method"], row["ratio"]): row for row in report["rows"]}


def timeless(report: dict) -> dict:
    """A report without what differs from run to run."""
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in report["rows"]]
    return {key: value for key, value in report.items() if key not in ("date", "machine")} | {"rows": rows}
