"""`stsimdiff ask`: answer questions about videos from their tokens."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import RequestError
from . import common, completion, options, output
from .answers import AnswerPrinter

#: Questions that are asked together.
Group = Sequence[str]
#: What ends in one of these, without spaces, is meant as a file even if there is none.
_SUFFIXES = (".safetensors", ".mp4", ".mkv", ".webm", ".mov", ".avi")

if TYPE_CHECKING:
    from ..models.inference.conversation import Answer, Conversation
    from ..models.inference.model_cache import ModelCache
    from ..models.loading.runtime import Runtime
    from ..pipeline import Context
    from ..records import CompressedVideo, VideoTokens
    from ..storage.stores import AnyPath
    from ..storage.stretch import Stretch


def ask(
    file: Annotated[
        str,
        typer.Argument(
            help="Compressed file, tokens file or video; or a folder of them, perhaps in a store (s3://, gs://).",
            show_default=False,
        ),
    ],
    questions: Annotated[
        list[str] | None,
        typer.Argument(
            help="More files, then the questions. Use - to read one question per line from stdin; without a "
            "question, a prompt opens.",
            show_default=False,
        ),
    ] = None,
    model: options.Model = None,
    revision: options.Revision = None,
    frames: options.Frames = None,
    fps: options.Fps = None,
    image_fps: options.ImageFps = None,
    min_pixels: options.MinPixels = None,
    max_pixels: options.MaxPixels = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Start of the part to ask about: seconds, mm:ss or hh:mm:ss.",
            show_default=False,
            rich_help_panel=options.FRAMES,
        ),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option(
            "--to",
            help="End of the part to ask about, likewise.",
            show_default=False,
            rich_help_panel=options.FRAMES,
        ),
    ] = None,
    when: Annotated[
        bool,
        typer.Option("--when", help="Show the times that each answer looked at most.", rich_help_panel=options.ANSWERS),
    ] = False,
    decoder: options.Decoder = "auto",
    decode_workers: options.DecodeWorkers = None,
    inside: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.method,
            help="Method that prunes between the LLM's layers, e.g. fastv. All tokens enter the LLM.",
            rich_help_panel=options.METHOD,
        ),
    ] = None,
    ratio: Annotated[
        str | None,
        typer.Option(
            help="Fraction of visual tokens left after the last pruning layer. Only with --inside.",
            rich_help_panel=options.METHOD,
        ),
    ] = None,
    positions: Annotated[
        str,
        typer.Option(
            help="How kept tokens are numbered: original; slots, without the slots of which nothing is kept; or "
            "packed, like text. The last two only to see what they cost.",
            rich_help_panel=options.ANSWERS,
        ),
    ] = "original",
    max_new_tokens: options.MaxNewTokens = 128,
    temperature: Annotated[
        float,
        typer.Option(
            min=0.0, help="Sampling temperature. 0 always takes the most likely token.", rich_help_panel=options.ANSWERS
        ),
    ] = 0.0,
    seed: Annotated[
        int, typer.Option(help="Random seed for temperatures above 0.", rich_help_panel=options.ANSWERS)
    ] = 0,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    attn: options.Attn = "auto",
    quantize: options.Quantize = None,
    engine: Annotated[
        str,
        typer.Option(
            autocompletion=completion.one_of(completion.ENGINES),
            help="What runs the LLM: transformers; or vllm, for many questions and files at once. Needs "
            "stsimdiff[vllm].",
            rich_help_panel=options.MODEL,
        ),
    ] = common.TRANSFORMERS,
    json: options.Json = False,
) -> None:
    """Answer questions about one or more videos.

    The kept tokens of a file enter the LLM once, and every question continues from there. Questions of the command
    line are answered together, and so are those from stdin with --json or several files. The LLM is loaded once for
    all files. The vision encoder is loaded only for a video. With --from and --to, only that part enters, and only its
    features are read. For a folder, the result is JSON, one line for every file.
    """
    from ..models.inference.model_cache import ModelCache, NoModelCache
    from ..models.loading.runtime import Runtime
    from ..models.question import ORIGINAL, check_generation, check_positions, check_question
    from ..storage.stretch import parse_stretch

    check_generation(max_new_tokens, temperature, seed)
    if check_positions(positions) != ORIGINAL and inside:
        raise RequestError("--positions and --inside cannot be used together.", "Leave out one of them.")
    if (inside is None) != (ratio is None):
        raise RequestError("--inside and --ratio must be given together.", "Write e.g. --inside fastv --ratio 0.3")
    stretch = parse_stretch(start, end)
    if stretch is not None and inside is not None:
        raise RequestError("--inside works on whole videos.", "Leave out --inside, or --from and --to.")
    if when and positions != ORIGINAL:
        raise RequestError("--when works with original positions.", "Leave out --when or --positions.")
    if when and inside is not None:
        raise RequestError("--when works with tokens that stay in all layers.", "Leave out --inside, or --when.")
    files = _leading_files(file, questions or [])
    asked = (questions or [])[len(files) - 1 :]
    lines = any(_is_many(path) for path in files)
    if lines:
        files, json = _with_contents(files), True
    several = len(files) > 1
    interactive = not asked and sys.stdin.isatty() and not json and engine == common.TRANSFORMERS
    if not asked and not interactive:
        raise RequestError(
            "There is no question.",
            'Write e.g. stsimdiff ask FILE "What happens in this video?", or - to read questions from stdin.',
        )
    if interactive and several:
        raise RequestError("The prompt works with one file only.", "Name one file, or add the questions.")
    for question in asked:
        check_question(question)
    runtime = Runtime(device, dtype, attn, quantize)
    runtime.check()  # before a video is encoded
    asker = _Asker(
        models=ModelCache() if several else NoModelCache(),
        model=model,
        video=common.VideoOptions(
            frames,
            fps,
            decoder=decoder,
            workers=decode_workers,
            size=options.frame_size(min_pixels, max_pixels),
            revision=revision,
            image_fps=image_fps,
        ),
        stretch=stretch,
        runtime=runtime,
        inside=(inside, ratio) if inside and ratio else None,
        positions=positions,
        generation={"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed},
        given=tuple(asked),
        printer=AnswerPrinter(
            json=json,
            title=several and not json,
            announce=not (json or interactive) and (len(asked) != 1 or asked == ["-"]),
            when=when,
            stretch=stretch,
            inside=inside,
        ),
    )
    if engine != common.TRANSFORMERS:
        asker.ask_with_engine(engine, files, [question for group in _given_questions(asked) for question in group])
        return
    if interactive:
        asker.ask_about(files[0], _typed_questions())
        return
    given = _given_questions(asked)
    if several or json:  # stdin can be read only once
        given = [[question for group in given for question in group]]
    about = asker.write_line if lines else asker.ask_about
    common.each(files, lambda path: about(path, given))


def _leading_files(first: str, texts: list[str]) -> list[AnyPath]:
    """The first file, and the texts after it that name a file. The rest are questions.

    RequestError if a file follows a question, which would be asked as one.
    """
    from ..storage.stores import any_path

    count = next((number for number, text in enumerate(texts) if not _names_a_file(text)), len(texts))
    for text in filter(_names_a_file, texts[count:]):
        raise RequestError(f"{text} is a file, but it follows a question.", "Name all files before the first question.")
    return [any_path(text) for text in (first, *texts[:count])]


def _with_contents(paths: list[AnyPath]) -> list[AnyPath]:
    """The paths, and in the place of each folder the videos, tokens files and compressed files below it."""
    from ..archive.sources import STORED, VIDEOS, find
    from ..storage.stores import any_path

    files: list[AnyPath] = []
    for path in paths:
        if not _is_many(path):
            files.append(path)
            continue
        below = [any_path(file.path) for file in find([str(path)], None, stored=True)]
        files += [file for file in below if file.suffix.lower() in (STORED, *VIDEOS)]
    if not files:
        raise RequestError(f"There is nothing to ask about in {paths[0]}.", "Name a folder of compressed files.")
    return files


def _is_many(path: AnyPath) -> bool:
    """Whether this is a folder of files, not of segments or images, which are one video."""
    from ..storage.image_files import is_images
    from ..storage.segment_index import is_segments

    return path.is_dir() and not is_segments(path) and not is_images(path)


def _names_a_file(text: str) -> bool:
    """Whether something of this name exists (it may be a folder by mistake), or it looks like the name of a file."""
    from ..storage.stores import is_url

    if is_url(text):
        return " " not in text
    looks = " " not in text and Path(text).suffix.lower() in _SUFFIXES
    return bool(text) and (looks or Path(text).suffix == ".safetensors" or os.path.lexists(text))


@dataclass(frozen=True)
class _Asker:
    """Asks questions about one file after another with the same model, and prints the answers."""

    models: ModelCache
    model: str | None
    video: common.VideoOptions
    stretch: Stretch | None  # the part to ask about; None: everything
    runtime: Runtime
    inside: tuple[str, str] | None  # method that prunes inside the LLM, and its ratio
    positions: str
    generation: dict[str, Any]  # keyword arguments of Conversation.ask
    given: tuple[str, ...]  # the questions on the command line
    printer: AnswerPrinter

    def ask_about(self, file: AnyPath, questions: Iterable[Group]) -> None:
        """Ask every question about a file and print the answers; those of a group are asked together."""
        from .. import pipeline
        from ..models import EMBEDDED
        from ..pipeline import Context
        from ..storage.reading import is_stored
        from ..timing import Stopwatch

        if not is_stored(file):  # before it is encoded
            pipeline.check_length(self.given, self.model or EMBEDDED)
        timer = Stopwatch(self.runtime.device)
        context = Context(self.models, timer)
        video = self._open(file, context)
        conversation = self._conversation(file, video, context)
        _note_far_positions(conversation)
        self.printer.file(file)
        answered: list[tuple[str, Answer]] = []
        for group in questions:
            answered += self._answered(conversation, group)
        common.report_times(timer.seconds)
        alive = answered[-1][1].alive_per_layer if answered else ()
        kept = alive[-1] if alive else len(conversation.index)
        self.printer.summary(file, video.grid, kept, answered, timer.seconds, timer.total())

    def _open(self, file: AnyPath, context: Context) -> VideoTokens | CompressedVideo:
        """A file, or the part to ask about; a video is encoded."""
        video = common.open_input(file, self.model, self.video, self.runtime, context, stretch=self.stretch)
        source = video.grid.source
        common.warn_of_toy(video.grid.model.id, source.name, source.width, source.height)
        return video

    def ask_with_engine(self, engine: str, files: list[AnyPath], questions: list[str]) -> None:
        """Ask every question about every file at once, in another engine than transformers."""
        from ..models.question import ORIGINAL
        from ..pipeline import Context, all_tokens
        from ..records import VideoTokens
        from .ask_vllm import ask_with_vllm, check_options

        check_options(
            engine,
            when=self.printer.when,
            inside=self.inside is not None,
            positions=self.positions != ORIGINAL,
            quantize=self.runtime.quantize is not None,
            attn=self.runtime.attention != "auto",
            device=self.runtime.device != "auto",
        )

        def kept(file: AnyPath) -> CompressedVideo:
            video = self._open(file, Context(self.models))
            return all_tokens(video) if isinstance(video, VideoTokens) else video

        ask_with_vllm(files, questions, kept, self.printer, self.model, self.runtime.dtype, self.generation)

    def _answered(self, conversation: Conversation, group: Group) -> list[tuple[str, Answer]]:
        """The questions of a group with their answers, which are printed.

        A question by itself is answered piece by piece, unless the result is JSON.
        """
        printer, prompter = self.printer, conversation.language.prompter
        streamed = len(group) == 1 and not printer.json
        if streamed:
            printer.question(group[0], prompter)
        answers = conversation.ask_all(group, **self.generation, on_text=output.stream if streamed else None)
        for question, answer in zip(group, answers, strict=True):
            if not streamed:
                printer.question(question, prompter)
            printer.answer(answer, conversation.grid.seconds, streamed)
        return list(zip(group, answers, strict=True))

    def write_line(self, file: AnyPath, questions: Iterable[Group]) -> None:
        """Ask every question about a file of many, and print the answers as one line, or why there are none."""
        from .boundary import as_sentence

        try:
            self.ask_about(file, questions)
        except Exception as error:
            known = as_sentence(error)
            if known is not None:
                output.result_json({"file": str(file), "error": str(known)})
            raise

    def _conversation(self, file: AnyPath, video: VideoTokens | CompressedVideo, context: Context) -> Conversation:
        """A conversation about the kept tokens, or about all tokens if a method prunes inside the LLM."""
        from .. import pipeline
        from ..records import VideoTokens

        if self.inside:
            if not isinstance(video, VideoTokens):
                raise RequestError(f"{file} is already compressed.", "Leave out --inside, or give the tokens file.")
            method, ratio = self.inside
            return pipeline.converse_inside(video, ratio, method, self.runtime, model=self.model, context=context)
        return pipeline.converse(
            video,
            self.runtime,
            model=self.model,
            attention=self.printer.when,
            positions=self.positions,
            context=context,
        )


def _given_questions(questions: list[str]) -> Iterable[Group]:
    """The questions on the command line; `-` stands for the lines of stdin, each answered when it comes."""
    for stdin, some in itertools.groupby(questions, lambda question: question == "-"):
        if stdin:
            yield from _lines()
        else:
            yield list(some)


def _typed_questions() -> Iterator[Group]:
    """Questions typed at a prompt, until Ctrl-D."""
    output.note("type a question and press Enter; Ctrl-D ends.")
    yield from _lines(lambda: output.aside("[bold]?[/] ", end=""))
    output.aside("")


def _lines(prompt: Callable[[], None] = lambda: None) -> Iterator[Group]:
    """The lines of stdin without the empty ones, one by one; RequestError for one that is not text."""
    from ..models.question import LONGEST, check_question

    while True:
        prompt()
        try:
            line = sys.stdin.readline(LONGEST + 2)  # one that is longer is refused, and never read to its end
        except UnicodeDecodeError:
            raise RequestError("stdin contains bytes that are not UTF-8.", "Write the questions in UTF-8.") from None
        if not line:
            return
        if line.strip():
            yield [check_question(line.strip())]


def _note_far_positions(conversation: Conversation) -> None:
    """Kept tokens keep their places among all tokens, which may be more than the LLM has positions."""
    family = conversation.language.family
    if family.context and conversation.reach > family.context:
        output.note(
            f"the kept tokens stand at positions up to {conversation.reach:,}, and {family.checkpoint.id} was made "
            f"for {family.context:,}. Encode fewer --frames if its answers are poor."
        )
