"""Steps that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..registry import printable
from . import output

if TYPE_CHECKING:
    from ..models.loading.runtime import Runtime
    from ..pipeline import Context
    from ..records import CompressedVideo, FrameSize, Source, VideoTokens
    from ..storage.stretch import Stretch
    from ..video import Sampling

#: What runs the LLM by default.
TRANSFORMERS = "transformers"
#: Whether the note about the embedded model has been printed.
_introduced = False


def introduce(model: str) -> None:
    """Note once per run what the embedded models can be asked about. Other models need no note."""
    global _introduced
    from ..models import EMBEDDED_FOLDERS

    if model in EMBEDDED_FOLDERS and not _introduced:
        _introduced = True
        output.note(
            f"the embedded model `{model}` understands only rendered clips of coloured shapes. "
            "For other videos choose a full model, e.g. --model Qwen/Qwen2.5-VL-7B-Instruct"
        )


def inputs(model: str | None, *paths: Path | None) -> list[Path]:
    """The files and folders that a command reads, which its outputs must not replace; None for one not given."""
    from ..models import EMBEDDED_FOLDERS

    checkpoint = None if model is None or model in EMBEDDED_FOLDERS else Path(model)
    return [path for path in (checkpoint, *paths) if path is not None]


def report_source(source: Source) -> None:
    """Print the notes about a video, and warn of frames that could not be decoded, with their times."""
    name = printable(source.name)
    for text in source.notes:
        output.note(f"{name}: {text}")
    if source.missing_seconds:
        times = ", ".join(f"{second:.3f}" for second in source.missing_seconds)
        output.warn(f"{len(source.missing_seconds)} frames of {name} could not be decoded, at {times} s")


def sampling_of(
    frames: int | None,
    fps: float | None,
    start: float | None = None,
    end: float | None = None,
    decoder: str = "auto",
    workers: int | None = None,
    size: FrameSize | None = None,
) -> Sampling:
    """The Sampling record that the options describe; RequestError if both `frames` and `fps` are given."""
    from ..errors import RequestError
    from ..records import FrameSize
    from ..video import DEFAULT_FRAMES, Sampling

    if frames is not None and fps is not None:
        raise RequestError("--frames and --fps cannot be used together.", "Give one of them.")
    return Sampling(frames or DEFAULT_FRAMES, fps, start, end, decoder, workers, size or FrameSize())


def encode(
    path: Path, model: str | None, sampling: Sampling, runtime: Runtime, context: Context, **options: Any
) -> VideoTokens:
    """Encode a video with a progress bar, and print the notes about the model and the video."""
    from dataclasses import replace

    from .. import pipeline
    from ..models import EMBEDDED

    introduce(model or EMBEDDED)
    with output.frame_progress() as progress:
        context = replace(context, progress=progress, note=output.note)
        tokens = pipeline.encode_video(path, model or EMBEDDED, sampling, runtime, context=context, **options)
    report_source(tokens.grid.source)
    return tokens


def open_input(
    path: Path,
    model: str | None,
    frames: int | None,
    fps: float | None,
    runtime: Runtime,
    context: Context,
    *,
    workers: int | None = None,
    size: FrameSize | None = None,
    stay: bool = False,
    evidence: Sequence[str] = (),
    stretch: Stretch | None = None,
) -> VideoTokens | CompressedVideo:
    """Open a tokens file or a compressed file, or encode a video, which `workers` decode; of a `stretch`, only that.

    With `stay`, the tensors of a tokens file stay on disk and are read in pieces. `evidence` is what a video is encoded
    with. RequestError if frames or their size are chosen for a file that is already encoded.
    """
    from ..errors import RequestError
    from ..storage.reading import is_stored, open_stored

    if not is_stored(path):
        start, end = (None, None) if stretch is None else (stretch.start, stretch.end)
        sampling = sampling_of(frames, fps, start, end, workers=workers, size=size)
        return encode(path, model, sampling, runtime, context, evidence=evidence)
    if frames is not None or fps is not None:
        raise RequestError(f"{path} is already encoded, so its frames are fixed.", "Leave out --frames and --fps.")
    if size is not None:
        raise RequestError(
            f"{path} is already encoded, so its frames have their size.", "Leave out --min-pixels and --max-pixels."
        )
    stored = open_stored(path)
    for text in stored.notes:
        output.note(text)
    if stretch is not None:
        part = stored.part(stretch.slots(stored.grid))
        if not len(part.index):
            raise RequestError(f"No token of {path} was kept {stretch}.", "Choose a longer part, or a higher --ratio.")
        return part
    return stored.video() if stored.compressed else stored.tokens(in_memory=not stay)


def each(files: list[Path], work: Callable[[Path], None]) -> None:
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
            output.error(str(known), known.hint)
    if failed:
        raise StsimdiffError(f"{failed} of {len(files)} files failed.")
