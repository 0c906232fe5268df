"""`stsimdiff ask`: questions about a video, answered from its tokens."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import common, options, output

if TYPE_CHECKING:
    from ..models.conversation import Conversation


def ask(
    file: Annotated[Path, typer.Argument(help="A compressed file, a tokens file, or a video.", show_default=False)],
    questions: Annotated[
        list[str] | None,
        typer.Argument(help="Questions; - reads one a line from stdin; none: a prompt.", show_default=False),
    ] = None,
    model: options.Model = None,
    frames: options.Frames = None,
    fps: options.Fps = None,
    inside: Annotated[
        str | None,
        typer.Option(help="All tokens enter, and this method prunes between the LLM's layers: fastv, framefusion, ..."),
    ] = None,
    ratio: Annotated[
        str | None, typer.Option(help="With --inside: fraction of tokens alive behind the last cut.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 128,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 always takes the likeliest token.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed for temperatures above 0.")] = 0,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    attn: options.Attn = "auto",
    quantize: options.Quantize = None,
    json: options.Json = False,
) -> None:
    """Ask about a video. The kept tokens enter the LLM once; every question starts from there.

    Loads no vision tower unless FILE is a video.
    """
    from ..errors import RequestError
    from ..timing import Stopwatch

    if (inside is None) != (ratio is None):
        raise RequestError("--inside and --ratio belong together.", "Write e.g. --inside fastv --ratio 0.3")
    interactive = not questions and sys.stdin.isatty() and not json
    if not questions and not interactive:
        raise RequestError("There is no question.", 'stsimdiff ask FILE "What happens in this video?", or - for stdin')
    watch = Stopwatch()
    from .. import pipeline
    from ..models.quantize import check_quantize
    from ..records import VideoTokens

    check_quantize(quantize)  # before a video is encoded
    where: dict[str, Any] = {"device": device, "dtype": dtype, "attention": attn, "watch": watch}
    found = common.open_input(file, model, frames=frames, fps=fps, **where)
    where |= {"model": model, "quantize": quantize}
    common.introduce(found.grid.model.id)
    conversation: Conversation
    if inside is not None and ratio is not None:
        if not isinstance(found, VideoTokens):
            raise RequestError(f"{file} is compressed already.", "Leave out --inside, or give the tokens file.")
        conversation = pipeline.converse_inside(found, ratio, inside, **where)
    else:
        video = pipeline.all_tokens(found) if isinstance(found, VideoTokens) else found
        conversation = pipeline.converse(video, **where)
    several = len(questions or []) != 1 or (questions or []) == ["-"]
    answers = []
    for question in _prompted() if interactive else _listed(questions or []):
        _hint_unknown(conversation, question)
        if several and not interactive and not json:
            output.stderr.print(f"[bold]? {output.escape(question)}[/]")
        answer = conversation.ask(
            question,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
            on_text=None if json else output.stream,
        )
        if not json:
            output.result("")
        answers.append(_row(question, answer))
        if conversation.live:
            answers[-1]["live"] = conversation.live
    if json:
        output.result_json(
            {
                "file": str(file),
                "model": found.grid.model.id,
                "tokens": found.grid.tokens,
                "kept": conversation.live[-1] if conversation.live else len(conversation.index),
                "inside": inside,
                "answers": answers,
                "seconds": {**watch.seconds, "total": watch.total()},
            }
        )


def _row(question: str, answer: Any) -> dict[str, Any]:
    return {
        "question": question,
        "answer": answer.text,
        "tokens": answer.tokens,
        "prompt_tokens": answer.prompt_tokens,
        "seconds": answer.seconds,
    }


def _listed(questions: list[str]) -> Iterator[str]:
    """The questions of the command line; `-` stands for the lines of stdin."""
    for question in questions:
        if question == "-":
            yield from (line.strip() for line in sys.stdin if line.strip())
        else:
            yield question


def _prompted() -> Iterator[str]:
    """Questions typed at a prompt, until Ctrl-D."""
    output.note("ask away; Ctrl-D ends.")
    while True:
        output.stderr.print("[bold]?[/] ", end="")
        line = sys.stdin.readline()
        if not line:
            output.stderr.print()
            return
        if line.strip():
            yield line.strip()


def _hint_unknown(conversation: Conversation, question: str) -> None:
    """A model with a closed vocabulary does not know every word: say so, and what it can answer."""
    unknown = conversation.language.prompter.unknown_words(question)
    if not unknown:
        return
    from ..models.tiny.questions import EXAMPLES

    output.warn(f"the model does not know {', '.join(repr(word) for word in unknown)}; the answer may mean nothing.")
    output.stderr.print("[cyan]hint:[/] questions that it can answer:")
    for example in EXAMPLES:
        output.stderr.print(f"  {output.escape(example)}")
