"""`stsimdiff ask --engine vllm`: every question about every file at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import RequestError
from ..registry import unknown_name
from . import output
from .common import TRANSFORMERS

VLLM = "vllm"

if TYPE_CHECKING:
    from ..records import CompressedVideo
    from ..storage.stores import AnyPath
    from .answers import AnswerPrinter


def ask_with_vllm(
    files: Sequence[AnyPath],
    questions: Sequence[str],
    read: Callable[[AnyPath], CompressedVideo],
    printer: AnswerPrinter,
    model: str | None,
    dtype: str,
    generation: dict[str, Any],
) -> None:
    """`read` every file, ask, and print the answers file by file. RequestError if two models made the files."""
    from ..integrations.serving.engine import Engine, require_served, require_vllm
    from ..integrations.serving.library import require_maker
    from ..models.families import open_family

    first = read(files[0])
    family = open_family(model or first.grid.model.id)
    require_served(family)
    _set_up()
    require_vllm()
    videos = [first, *map(read, files[1:])]
    for file, video in zip(files, videos, strict=True):
        require_maker(family, file, video.grid)
    engine = Engine(family, dtype, output.mode.verbose)
    answers = engine.ask(videos, questions, **generation)
    for file, video, some in zip(files, videos, answers, strict=True):
        answered = list(zip(questions, some, strict=True))
        printer.file(file)
        for question, answer in answered:
            printer.question(question, engine.prompts.prompter)
            printer.answer(answer, video.grid.seconds)
        spent = sum(answer.seconds["answer"] for answer in some)
        printer.summary(file, video.grid, len(video.index), answered, {"answer": spent}, spent)


def _set_up() -> None:
    """What vLLM reads from the environment: the engine is in this process and ends with it; only errors are shown."""
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    if not output.mode.verbose:
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")


def check_options(engine: str, **refused: bool) -> None:
    """RequestError unless the engine is vllm, and for an option that vLLM cannot follow, by its name."""
    if engine != VLLM:
        raise unknown_name("engine", engine, [TRANSFORMERS, VLLM])
    for name, given in refused.items():
        if given:
            raise RequestError(f"--{name} and --engine vllm cannot be used together.", "Leave out one of them.")
