"""What several commands do alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import output

if TYPE_CHECKING:
    from ..models.loading.runtime import Runtime
    from ..pipeline import Context
    from ..records import CompressedVideo, Source, VideoTokens
    from ..video import Sampling

#: The embedded model has introduced itself.
_told = False


def introduce(model: str) -> None:
    """Say once what the embedded model knows."""
    global _told
    from ..models import EMBEDDED_FOLDERS

    if model in EMBEDDED_FOLDERS and not _told:
        _told = True
        output.note(
            f"the embedded model `{model}` knows rendered clips of coloured shapes, nothing else. "
            "For other videos name a real one, e.g. --model Qwen/Qwen2.5-VL-7B-Instruct"
        )


def report_source(source: Source) -> None:
    """Say what is odd about a video, and name the frames that could not be decoded, by time stamp."""
    for text in source.notes:
        output.note(f"{source.name}: {text}")
    if source.missing_seconds:
        times = ", ".join(f"{second:.3f}" for second in source.missing_seconds)
        output.warn(f"{len(source.missing_seconds)} frames of {source.name} could not be decoded, at {times} s")


def sampling_of(
    frames: int | None, fps: float | None, start: float | None = None, end: float | None = None, decoder: str = "auto"
) -> Sampling:
    """The record of what the options say; RequestError if they exclude each other."""
    from ..errors import RequestError
    from ..video import DEFAULT_FRAMES, Sampling

    if frames is not None and fps is not None:
        raise RequestError("--frames and --fps exclude each other.", "Give one of them.")
    return Sampling(frames or DEFAULT_FRAMES, fps, start, end, decoder)


def encode(
    path: Path, model: str | None, sampling: Sampling, runtime: Runtime, context: Context, **options: Any
) -> VideoTokens:
    """Encode a video with a progress bar and the usual notes."""
    from dataclasses import replace

    from .. import pipeline
    from ..models import EMBEDDED

    introduce(model or EMBEDDED)
    with output.frame_progress() as progress:
        context = replace(context, progress=progress)
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
    stay: bool = False,
    evidence: Sequence[str] = (),
) -> VideoTokens | CompressedVideo:
    """What a FILE argument means: a tokens file (whose tensors may `stay` there), a compressed one, or a video."""
    from ..errors import RequestError
    from ..storage.reading import StoredVideo, is_stored

    if not is_stored(path):
        return encode(path, model, sampling_of(frames, fps), runtime, context, evidence=evidence)
    if frames is not None or fps is not None:
        raise RequestError(f"{path} is encoded already: its frames are chosen.", "Leave out --frames and --fps.")
    stored = StoredVideo(path)
    return stored.video() if stored.compressed else stored.tokens(in_memory=not stay)


def each(files: list[Path], work: Callable[[Path], None]) -> None:
    """Do the work for every file. One failure stops nothing: it is named, and the exit code is 1 at the end.

    A single file fails as itself.
    """
    from ..errors import StsimdiffError

    failed = 0
    for file in files:
        try:
            work(file)
        except StsimdiffError as error:
            if len(files) == 1:
                raise
            failed += 1
            output.error(str(error), error.hint)
    if failed:
        raise StsimdiffError(f"{failed} of {len(files)} files failed.")
