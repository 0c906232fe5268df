"""`stsimdiff ask`: questions about a video, answered from its tokens."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import common, options, output

if TYPE_CHECKING:
    from ..models.inference.conversation import Conversation
    from ..models.inference.model_cache import ModelCache
    from ..models.loading.runtime import Runtime
    from ..pipeline import Context
    from ..records import CompressedVideo, VideoTokens


def ask(
    file: Annotated[Path, typer.Argument(help="A compressed file, a tokens file, or a video.", show_default=False)],
    questions: Annotated[
        list[str] | None,
        typer.Argument(
            help="More files, then questions; - reads one a line from stdin; none: a prompt.", show_default=False
        ),
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
    """Ask about a video, or several. The kept tokens enter the LLM once; every question starts from there.

    Loads no vision tower unless FILE is a video, and the LLM once for all files.
    """
    from ..errors import RequestError
    from ..models.inference.model_cache import ModelCache, NoModelCache
    from ..models.loading.runtime import Runtime

    if (inside is None) != (ratio is None):
        raise RequestError("--inside and --ratio belong together.", "Write e.g. --inside fastv --ratio 0.3")
    files, asked = _files([file, *map(Path, questions or [])]), (questions or [])
    asked = asked[len(files) - 1 :]
    interactive = not asked and sys.stdin.isatty() and not json
    if not asked and not interactive:
        raise RequestError("There is no question.", 'stsimdiff ask FILE "What happens in this video?", or - for stdin')
    if interactive and len(files) > 1:
        raise RequestError("A prompt is about one file.", "Name one file, or give the questions too.")
    runtime = Runtime(device, dtype, attn, quantize)
    runtime.check()  # before a video is encoded
    session = _Session(
        ModelCache() if len(files) > 1 else NoModelCache(),
        model,
        frames,
        fps,
        runtime,
        (inside, ratio) if inside and ratio else None,
        {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed},
        json,
    )
    if interactive:
        session.about(file, _prompted(), announce=False)
        return
    listed = list(_listed(asked)) if len(files) > 1 else _listed(asked)  # stdin can be read once
    several = len(asked) != 1 or asked == ["-"]
    common.each(files, lambda one: session.about(one, listed, announce=several, title=len(files) > 1))


def _files(names: list[Path]) -> list[Path]:
    """The files that a command line begins with: the first, and those behind it that exist or look like ours."""
    files = names[:1]
    for name in names[1:]:
        if not (name.suffix == ".safetensors" or _exists(name)):
            break
        files.append(name)
    return files


def _exists(name: Path) -> bool:
    """Whether it names a file; a question may be longer than a name can be."""
    try:
        return name.is_file()
    except OSError:
        return False


@dataclass
class _Session:
    """Questions about one file after the other, with one model."""

    models: ModelCache
    model: str | None
    frames: int | None  # of a video
    fps: float | None
    runtime: Runtime
    inside: tuple[str, str] | None  # method and ratio
    answering: dict[str, Any]
    json: bool

    def about(self, file: Path, questions: Iterable[str], announce: bool, title: bool = False) -> None:
        """Ask all questions about a file, and print the answers."""
        from ..pipeline import Context
        from ..timing import Stopwatch

        timer = Stopwatch(self.runtime.device)
        context = Context(self.models, timer)
        found = common.open_input(file, self.model, self.frames, self.fps, self.runtime, context)
        common.introduce(found.grid.model.id)
        conversation = self._conversation(file, found, context)
        if title and not self.json:
            output.stderr.print(f"[bold]{output.escape(str(file))}[/]")
        answers = []
        for question in questions:
            _hint_unknown(conversation, question)
            if announce and not self.json:
                output.stderr.print(f"[bold]? {output.escape(question)}[/]")
            on_text = None if self.json else output.stream
            answer = conversation.ask(question, **self.answering, on_text=on_text)
            if not self.json:
                output.result("")
            answers.append(_row(question, answer))
            if conversation.alive_per_layer:
                answers[-1]["live"] = conversation.alive_per_layer
        if self.json:
            output.result_json(
                {
                    "file": str(file),
                    "model": found.grid.model.id,
                    "tokens": found.grid.tokens,
                    "kept": conversation.alive_per_layer[-1]
                    if conversation.alive_per_layer
                    else len(conversation.index),
                    "inside": self.inside[0] if self.inside else None,
                    "answers": answers,
                    "seconds": {**timer.seconds, "total": timer.total()},
                }
            )

    def _conversation(self, file: Path, found: VideoTokens | CompressedVideo, context: Context) -> Conversation:
        from .. import pipeline
        from ..errors import RequestError
        from ..records import VideoTokens

        if self.inside:
            if not isinstance(found, VideoTokens):
                raise RequestError(f"{file} is compressed already.", "Leave out --inside, or give the tokens file.")
            method, ratio = self.inside
            return pipeline.converse_inside(found, ratio, method, self.runtime, model=self.model, context=context)
        video = pipeline.all_tokens(found) if isinstance(found, VideoTokens) else found
        return pipeline.converse(video, self.runtime, model=self.model, context=context)


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
    from ..synthetic.questions import EXAMPLES

    output.warn(f"the model does not know {', '.join(repr(word) for word in unknown)}; the answer may mean nothing.")
    output.stderr.print("[cyan]hint:[/] questions that it can answer:")
    for example in EXAMPLES:
        output.stderr.print(f"  {output.escape(example)}")
