"""Describes the video file that frames come from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from ..records import Source
from .scanning import Scan

BLOCK = 1 << 20  # bytes read at a time


def source_of(path: Path | str, scan: Scan, decoder: str, missing: Iterable[float] = ()) -> Source:
    """The `Source` record of the video at `path`. Reads the whole file for its SHA-256.

    `decoder` is the name of the reader, `missing` the times in seconds of chosen frames that it could not decode.
    """
    path = Path(path)
    return Source(
        name=path.name,
        bytes=path.stat().st_size,
        sha256=checksum_of(path),
        seconds=scan.duration,
        fps=scan.fps,
        frames=scan.frames,
        width=scan.width,
        height=scan.height,
        decoder=decoder,
        missing_seconds=tuple(missing),
        notes=scan.notes + _colours(scan, decoder),
    )


def _colours(scan: Scan, decoder: str) -> tuple[str, ...]:
    """A note where a reader takes other colours than players: decord and torchcodec take BT.601 without a tag."""
    if decoder == "pyav" or not scan.untagged_hd:
        return ()
    return (f"The file does not say how its colours are coded: {decoder} takes BT.601, where players take BT.709.",)


def checksum_of(path: Path) -> str:
    """The SHA-256 of a file, by which a video is recognised later."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
