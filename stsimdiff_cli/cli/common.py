"""What several commands do alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import output

if TYPE_CHECKING:
    from ..records import Source, VideoTokens

_told = False


def introduce(model: str) -> None:
    """Say once what the embedded model knows."""
    global _told
    from ..models import EMBEDDED

    if model == EMBEDDED and not _told:
        _told = True
        output.note(
            "the embedded model `tiny` knows rendered clips of coloured shapes, nothing else. "
            "For other videos name a real one, e.g. --model Qwen/Qwen2.5-VL-7B-Instruct"
        )


def report_source(source: Source) -> None:
    """Say what is odd about a video, and name the frames that could not be decoded, by time stamp."""
    for text in source.notes:
        output.note(f"{source.name}: {text}")
    if source.missing_seconds:
        times = ", ".join(f"{second:.3f}" for second in source.missing_seconds)
        output.warn(f"{len(source.missing_seconds)} frames of {source.name} could not be decoded, at {times} s")


def encode(path: Path, model: str | None, **options: Any) -> VideoTokens:
    """Encode a video with a progress bar and the usual notes."""
    from .. import pipeline
    from ..models import EMBEDDED

    introduce(model or EMBEDDED)
    with output.frame_progress() as progress:
        tokens = pipeline.encode_video(path, model or EMBEDDED, progress=progress, **options)
    report_source(tokens.grid.source)
    return tokens


def stored_tokens(path: Path, command: str) -> VideoTokens | None:
    """A tokens file, read; None if `path` is a video. A compressed file is refused."""
    from ..store import StoredVideo, is_stored

    if not is_stored(path):
        return None
    stored = StoredVideo(path)
    if stored.compressed:
        from ..errors import RequestError

        raise RequestError(f"{path} is compressed already.", f"Give {command} the tokens file or the video.")
    return stored.tokens()
