"""`stsimdiff ask --engine vllm`: every question about every file at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RequestError
from ..registry import unknown_name
from . import output
from .common import TRANSFORMERS

VLLM = "vllm"

if TYPE_CHECKING:
    from ..models.inference.conversation import Answer
    from ..records import CompressedVideo


def ask_with_vllm(
    files: Sequence[Path],
    questions: Sequence[str],
    read: Callable[[Path], CompressedVideo],
    model: str | None,
    dtype: str,
    generation: dict[str, Any],
    json: bool,
) -> None:
    """Print the answers file by file, as `ask` does; `read` opens a file. RequestError if two models made the files."""
    from ..integrations.serving.engine import Engine, require_vllm
    from ..integrations.serving.library import require_maker
    from ..models.families import open_family

    require_vllm()
    videos = [read(file) for file in files]
    family = open_family(model or videos[0].grid.model.id)
    for file, video in zip(files, videos, strict=True):
        require_maker(family, file, video.grid)
    engine = Engine(family, dtype)
    for file, video, answers in zip(files, videos, engine.ask(videos, questions, **generation), strict=True):
        if json:
            output.result_json(_row(file, video, questions, answers))
            continue
        if len(files) > 1:
            output.stderr.print(f"[bold]{output.escape(str(file))}[/]")
        for question, answer in zip(questions, answers, strict=True):
            if len(questions) > 1:
                output.stderr.print(f"[bold]? {output.escape(question)}[/]")
            output.result(answer.text)


def check_options(engine: str, **refused: bool) -> None:
    """RequestError unless the engine is vllm, and for an option that vLLM cannot follow, by its name."""
    if engine != VLLM:
        raise unknown_name("engine", engine, [TRANSFORMERS, VLLM])
    for name, given in refused.items():
        if given:
            raise RequestError(f"--{name} and --engine vllm cannot be used together.", "Leave out one of them.")


def _row(file: Path, video: CompressedVideo, questions: Sequence[str], answers: Sequence[Answer]) -> dict[str, Any]:
    return {
        "file": str(file),
        "model": video.grid.model.id,
        "tokens": video.grid.tokens,
        "kept": len(video.index),
        "answers": [
            {
                "question": question,
                "answer": answer.text,
                "tokens": answer.tokens,
                "prompt_tokens": answer.prompt_tokens,
                "seconds": answer.seconds,
            }
            for question, answer in zip(questions, answers, strict=True)
        ],
        "seconds": {"total": sum(answer.seconds["share"] for answer in answers)},
    }
