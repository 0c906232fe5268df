"""Asks every question of a benchmark, for every method at every ratio; a video is encoded once for all of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__, pipeline
from ..errors import VideoError
from ..models.families import open_family
from ..models.loading.runtime import Runtime, pick_device
from ..records import VideoTokens
from ..timing import Stopwatch
from ..video import Sampling
from . import paper_results
from .answering import Respondent, working
from .plan import Plan
from .samples_log import Line, Lines
from .tasks.base import Item, Task

FORMAT = "stsimdiff.eval/1"


@dataclass(frozen=True)
class Settings:
    """What decides an answer beside the question, the method and the ratio."""

    model: str
    frames: int
    runtime: Runtime = Runtime()
    revision: str | None = None

    def respondent(self, task: Task) -> Respondent:
        """The model, with answers as long as the benchmark allows."""
        return Respondent(self.runtime, task.max_new_tokens)


@dataclass(frozen=True)
class Failure:
    """A video that could not be used, why, and how many questions are left out with it."""

    video: str
    error: str
    questions: int


def request_of(task: Task, settings: Settings, subtitles: bool) -> dict[str, Any]:
    """The settings as they are written beside the answers; ModelError if there is no such model."""
    checkpoint = open_family(settings.model, settings.revision).checkpoint
    return {
        "format": FORMAT,
        "stsimdiff": __version__,
        "benchmark": task.name,
        "subtitles": subtitles,
        "model": settings.model,
        "fingerprint": checkpoint.fingerprint,
        "paper_model": paper_results.which(checkpoint),
        "frames": settings.frames,
        "max_new_tokens": task.max_new_tokens,
        "device": pick_device(settings.runtime.device).type,
        "dtype": settings.runtime.dtype,
        "attention": settings.runtime.attention,
        "quantize": settings.runtime.quantize,
    }


def by_video(items: list[Item]) -> dict[str, list[Item]]:
    """The questions of each video, in the order in which videos come first."""
    found: dict[str, list[Item]] = {}
    for item in items:
        found.setdefault(item.video, []).append(item)
    return found


def unanswered(items: list[Item], plan: Plan, lines: Lines) -> dict[tuple[str, str], list[Item]]:
    """The questions that have no line yet, by method and ratio; {} if all is done."""
    found = {
        (method, ratio): [item for item in items if (method, float(ratio), item.id) not in lines]
        for method, ratio in plan.cells()
    }
    return {cell: some for cell, some in found.items() if some}


def run(
    task: Task,
    items: list[Item],
    plan: Plan,
    settings: Settings,
    lines: Lines,
    on_video: Callable[[int], None] = lambda _: None,
    on_failure: Callable[[Failure], None] = lambda _: None,
) -> list[Failure]:
    """Ask what has no line yet. A video that is missing or broken is told to `on_failure`, and the run goes on."""
    respondent = settings.respondent(task)
    failures = []
    videos = by_video(items)
    for count, (name, asked) in enumerate(videos.items()):
        on_video(count)
        missing = unanswered(asked, plan, lines)
        if not missing:
            continue
        try:
            tokens, encode = _encoded(asked[0].path, plan, settings, respondent)
        except VideoError as error:
            failures.append(Failure(name, str(error), len(asked)))
            on_failure(failures[-1])
            continue
        lines.add(
            line
            for (method, ratio), some in missing.items()
            for line in _answered(task, some, tokens, plan, method, ratio, respondent, encode)
        )
    on_video(len(videos))
    return failures


def _encoded(path: Path, plan: Plan, settings: Settings, respondent: Respondent) -> tuple[VideoTokens, float]:
    """A video's tokens and the seconds of decoding and encoding; VideoError for a missing or broken file."""
    if not path.is_file():
        raise VideoError(f"{path} does not exist.")
    context = pipeline.Context(respondent.models, Stopwatch(settings.runtime.device))
    tokens = pipeline.encode_video(
        path,
        settings.model,
        Sampling(frames=settings.frames),
        settings.runtime,
        revision=settings.revision,
        evidence=plan.evidence,
        context=context,
    )
    return tokens, working(context.timer)


def _answered(
    task: Task,
    items: list[Item],
    tokens: VideoTokens,
    plan: Plan,
    method: str,
    ratio: str,
    respondent: Respondent,
    encode: float,
) -> list[Line]:
    """The lines of one method at one ratio about one video."""
    found = []
    for numbers, replies in respondent.replies(tokens, plan.contenders[method], ratio, [i.prompt for i in items]):
        for number, reply in zip(numbers, replies.answers, strict=True):
            item = items[number]
            letter = task.extract(reply.text, item)
            parsed = letter or (guess(task, item) if task.guesses else "")
            seconds = {"encode": encode, "select": replies.select, "prefill": replies.prefill}
            found.append(
                Line(
                    id=item.id,
                    video=item.video,
                    method=method,
                    ratio=float(ratio),
                    prompt=item.prompt,
                    raw=reply.text,
                    parsed=parsed,
                    extracted=bool(letter),
                    answer=item.answer,
                    right=None if item.answer is None else parsed == item.answer,
                    kept=replies.kept,
                    tokens=tokens.grid.tokens,
                    seconds={**seconds, "answer": reply.seconds["answer"]},
                )
            )
    return found


def guess(task: Task, item: Item) -> str:
    """The letter that a benchmark draws where none can be extracted: the same for a question in every run.

    lmms-eval draws from one stream for the whole run, so that its guesses depend on what was asked before.
    """
    return random.Random(f"{task.name} {item.id}").choice(item.letters)
