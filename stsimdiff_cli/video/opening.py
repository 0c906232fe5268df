"""Opens a video file, or explains in one sentence why it cannot be opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from ..errors import RequestError, StsimdiffError, VideoError


def open_video(path: Path) -> tuple[Any, Any]:
    """Open `path` and return PyAV's container and its best video stream. The caller closes the container.

    Raises RequestError if there is no such file, VideoError if it is not a video that can be read.
    """
    _check_file(path)
    try:
        container = av.open(f"file:{path}")  # without "file:", a name with a colon is taken for a protocol
    except (av.FFmpegError, ValueError) as error:
        raise _unreadable(path, error) from error
    stream = container.streams.best("video")
    if stream is None or stream.codec_context is None or stream.disposition & Disposition.attached_pic:
        others: list[str] = sorted({s.type for s in container.streams if s is not stream})
        container.close()
        raise _no_picture(path, stream, others)
    return container, stream


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise RequestError(f"{str(path)!r} is a folder, not a video.", "Name a video file in it.")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError:
        raise RequestError(f"There is no file {str(path)!r}.", "Check the path and the spelling.") from None
    except OSError as error:
        raise RequestError(f"{str(path)!r} cannot be opened: {error.strerror}.", "Check its permissions.") from error
    if empty:
        raise VideoError(f"{str(path)!r} is empty (0 bytes).", "Copy or download the video again.")


def _unreadable(path: Path, error: Exception) -> VideoError:
    with path.open("rb") as file:
        looks_like_mp4 = file.read(12)[4:8] == b"ftyp"
    if looks_like_mp4:
        return VideoError(
            f"{str(path)!r} is an MP4 file without a usable index (its 'moov' part is missing or damaged).",
            "The copy, download or recording broke off: get the file again.",
        )
    reason = getattr(error, "strerror", None) or str(error)
    return VideoError(f"{str(path)!r} is not a video that can be read ({reason}).", "Check that it plays in a player.")


def _no_picture(path: Path, stream: Any, others: list[str]) -> StsimdiffError:
    if stream is not None and stream.codec_context is None:
        return VideoError(
            f"{str(path)!r} has a video stream in a format that this build of PyAV cannot decode.",
            f"Convert it first: ffmpeg -i {path.name} converted.mp4",
        )
    content = f"only {' and '.join(others)}" if others else "nothing that can be played"
    return VideoError(f"{str(path)!r} has no video stream, {content}.", "Give a file with pictures.")
