"""Opens what is stored: a tokens file, a compressed file, or a folder of segments."""

from __future__ import annotations

from ..records import CompressedVideo, VideoTokens
from .image_files import is_images
from .regular import check_file
from .segment_index import is_segments
from .stored import Stored
from .stored_segments import StoredSegments
from .stored_video import StoredVideo
from .stores import AnyPath, any_path

__all__ = ["Stored", "StoredSegments", "StoredVideo", "is_stored", "load", "open_stored"]


def load(path: str | AnyPath) -> VideoTokens | CompressedVideo:
    """The contents of a tokens file, a compressed file or a folder of segments, in memory. Errors as `open_stored`.

    `path`: of this machine, or an address in a store (s3://, gs://).
    """
    stored = open_stored(any_path(str(path)))
    return stored.video() if stored.compressed else stored.tokens()


def open_stored(path: AnyPath) -> Stored:
    """A file or a folder of segments whose headers have been read. Errors as StoredVideo and StoredSegments."""
    return StoredSegments(path) if is_segments(path) else StoredVideo(path)


def is_stored(path: AnyPath) -> bool:
    """Whether a file is a tokens or compressed file, or a folder of segments, rather than a video (or images).

    RequestError for a pipe, and for any other folder.
    """
    if is_segments(path):
        return True
    if is_images(path):
        return False
    check_file(path, "a video, a tokens file or a compressed file")
    if path.suffix == ".safetensors":
        return True
    with path.open("rb") as file:
        start = file.read(9)  # safetensors: 8 bytes of header length, then JSON
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < 100_000_000
