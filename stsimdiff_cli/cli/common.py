"""Steps that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..registry import printable
from . import output

if TYPE_CHECKING:
    from ..models.loading.runtime import Runtime
    from ..pipeline import Context
    from ..records import CompressedVideo, FrameSize, Source, VideoTokens
    from ..storage.stores import AnyPath
    from ..storage.stretch import Stretch
    from ..video import Sampling

#: What to do about the embedded model, which knows little of the world.
_OTHERS = "For other videos choose a full model, e.g. --model Qwen/Qwen2.5-VL-7B-Instruct"
#: What runs the LLM by default.
TRANSFORMERS = "transformers"


def introduce(model: str) -> None:
    """Note once per run what the embedded model can be asked about. Other models need no note."""
    from ..models import EMBEDDED

    if model == EMBEDDED and output.first_time(model):
        output.note(f"the embedded model `{model}` understands only rendered clips of coloured objects. {_OTHERS}")


def warn_of_toy(model: str, name: str, width: int, height: int) -> None:
    """Warn once per run and video if the embedded model is used on a video (of width x height pixels) of another kind.

    Its answers sound certain all the same.
    """
    from ..models import EMBEDDED
    from ..synthetic import looks_rendered

    if model == EMBEDDED and not looks_rendered(width, height) and output.first_time(f"{model} {name}"):
        output.warn(
            f"the embedded model `{model}` understands only rendered clips of coloured objects, and {name} does not "
            f"look like one: what it answers is made up. {_OTHERS}"
        )


def report_times(seconds: dict[str, float]) -> None:
    """With --verbose, the seconds of each step."""
    output.detail(", ".join(f"{name} {value:.2f} s" for name, value in seconds.items()))


def inputs(model: str | None, *paths: Path | None) -> list[Path]:
    """The files and folders that a command reads, which its outputs must not replace; None for one not given."""
    from ..models import EMBEDDED

    checkpoint = None if model is None or model == EMBEDDED else Path(model)
    return [path for path in (checkpoint, *paths) if path is not None]


def report_source(source: Source) -> None:
    """Print the notes about a video, and warn of frames that could not be decoded, with their times."""
    name = printable(source.name)
    for text in source.notes:
        output.note(f"{name}: {text}")
    if source.missing_seconds:
        times = ", ".join(f"{second:.3f}" for second in source.missing_seconds)
        output.warn(f"{len(source.missing_seconds)} frames of {name} could not be decoded, at {times} s")


def check_revision(model: str | None, revision: str | None) -> None:
    """RequestError if a revision is given for a checkpoint that is not on the Hub."""
    from ..errors import RequestError
    from ..models import EMBEDDED

    if revision is not None and (model in (None, EMBEDDED) or Path(str(model)).is_dir()):
        raise RequestError(
            "--revision works with Hub checkpoints only.", "Leave it out, or give a Hub id with --model."
        )


@dataclass(frozen=True)
class VideoOptions:
    """How a video is encoded, as the options say. Tokens that are already in a file take none of this."""

    frames: int | None = None
    fps: float | None = None
    start: float | None = None
    end: float | None = None
    decoder: str = "auto"
    workers: int | None = None
    size: FrameSize | None = None
    revision: str | None = None
    image_fps: float | None = None

    @property
    def chosen(self) -> bool:
        """Whether anything is asked for that a file which is already encoded cannot give."""
        return self != VideoOptions(decoder=self.decoder, workers=self.workers)

    def sampling(self) -> Sampling:
        """The record of the video module; RequestError if both `frames` and `fps` are given."""
        from ..errors import RequestError
        from ..records import FrameSize
        from ..video import Sampling

        if self.frames is not None and self.fps is not None:
            raise RequestError("--frames and --fps cannot be used together.", "Give one of them.")
        size = self.size or FrameSize()
        return Sampling(
            self.frames, self.fps, self.start, self.end, self.decoder, self.workers, size, image_fps=self.image_fps
        )

    def check_unused(self, path: AnyPath) -> None:
        """RequestError if something is asked for that the tokens in this file cannot give any more."""
        from ..errors import RequestError

        for what, given, names in (
            ("its frames are fixed", (self.frames, self.fps), "--frames and --fps"),
            ("its times are fixed", (self.image_fps,), "--image-fps"),
            ("its part of the video is fixed", (self.start, self.end), "--start and --end"),
            ("its frames have their size", (self.size,), "--min-pixels and --max-pixels"),
            ("its model is fixed", (self.revision,), "--revision"),
            ("no video is read", (None if self.decoder == "auto" else self.decoder,), "--decoder"),
            ("no video is read", (self.workers,), "--decode-workers"),
        ):
            if any(value is not None for value in given):
                raise RequestError(f"{path} is already encoded, so {what}.", f"Leave out {names}.")


def encode(
    path: Path, model: str | None, sampling: Sampling, runtime: Runtime, context: Context, **options: Any
) -> VideoTokens:
    """Encode a video with a progress bar, and print the notes about the model and the video."""
    from .. import pipeline
    from ..models import EMBEDDED

    with output.progress("frames") as progress:
        context = replace(context, progress=progress, note=output.note)
        tokens = pipeline.encode_video(path, model or EMBEDDED, sampling, runtime, context=context, **options)
    report_source(tokens.grid.source)
    source, used = tokens.grid.source, tokens.grid.model
    warn_of_toy(used.id, source.name, source.width, source.height)
    dtype = str(tokens.features.dtype).removeprefix("torch.")
    output.detail(
        f"{source.name}: {source.width} x {source.height}, {source.seconds:.2f} s, read by {source.decoder}; "
        f"encoded by {used.id}, revision {used.revision or 'none'}, into {dtype}"
    )
    return tokens


def open_input(
    path: AnyPath,
    model: str | None,
    asked: VideoOptions,
    runtime: Runtime,
    context: Context,
    *,
    stay: bool = False,
    evidence: Sequence[str] = (),
    stretch: Stretch | None = None,
) -> VideoTokens | CompressedVideo:
    """Open a tokens file or a compressed file, or encode a video; of a `stretch`, only that. It may be in a store.

    With `stay`, the tensors of a tokens file stay on disk and are read in pieces. `evidence` is what a video is encoded
    with. RequestError if something is `asked` that a file which is already encoded cannot give.
    """
    from ..errors import RequestError
    from ..storage.reading import is_stored, open_stored
    from ..storage.stores import local_copy

    if not is_stored(path):
        if stretch is not None:
            asked = replace(asked, start=stretch.start, end=stretch.end)
        sampling = asked.sampling()
        check_revision(model, asked.revision)
        with local_copy(str(path)) as video:
            return encode(video, model, sampling, runtime, context, revision=asked.revision, evidence=evidence)
    asked.check_unused(path)
    stored = open_stored(path)
    for text in stored.notes:
        output.note(text)
    if stretch is not None:
        part = stored.part(stretch.slots(stored.grid))
        if not len(part.index):
            raise RequestError(f"No token of {path} was kept {stretch}.", "Choose a longer part, or a higher --ratio.")
        return part
    return stored.video() if stored.compressed else stored.tokens(in_memory=not stay)


def each(files: Sequence[AnyPath], work: Callable[[AnyPath], None]) -> None:
    """Do the work for every file. A failure is reported and the next file follows; StsimdiffError at the end.

    With a single file its own error is raised.
    """
    from ..errors import StsimdiffError
    from .boundary import as_sentence

    failed = 0
    for file in files:
        try:
            work(file)
        except BrokenPipeError:
            raise
        except Exception as error:
            known = as_sentence(error)
            if known is None or len(files) == 1:
                raise
            failed += 1
            output.error(str(known), known.hint, known.exit_code)
    if failed:
        raise StsimdiffError(f"{failed} of {len(files)} files failed.")
