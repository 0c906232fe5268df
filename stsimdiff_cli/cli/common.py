"""What several commands do alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import output

if TYPE_CHECKING:
    from ..records import CompressedVideo, Source, VideoTokens

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


def encode(path: Path, model: str | None, *, frames: int | None, fps: float | None, **options: Any) -> VideoTokens:
    """Encode a video with a progress bar and the usual notes."""
    from .. import pipeline
    from ..errors import RequestError
    from ..models import EMBEDDED

    if frames is not None and fps is not None:
        raise RequestError("--frames and --fps exclude each other.", "Give one of them.")
    introduce(model or EMBEDDED)
    with output.frame_progress() as progress:
        tokens = pipeline.encode_video(
            path, model or EMBEDDED, frames=frames or pipeline.DEFAULT_FRAMES, fps=fps, progress=progress, **options
        )
    report_source(tokens.grid.source)
    return tokens


def open_input(
    path: Path, model: str | None, *, frames: int | None, fps: float | None, stay: bool = False, **options: Any
) -> VideoTokens | CompressedVideo:
    """What a FILE argument means: a tokens file (whose tensors may `stay` there), a compressed one, or a video."""
    from ..errors import RequestError
    from ..store import StoredVideo, is_stored

    if not is_stored(path):
        return encode(path, model, frames=frames, fps=fps, **options)
    if frames is not None or fps is not None:
        raise RequestError(f"{path} is encoded already: its frames are chosen.", "Leave out --frames and --fps.")
    stored = StoredVideo(path)
    return stored.video() if stored.compressed else stored.tokens(stay=stay)


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
