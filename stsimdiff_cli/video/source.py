"""Describes the video file that frames come from."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from ..records import Source
from ..storage.image_files import image_files, state_of
from ..storage.stores import AnyPath
from ..timing.spans import span
from .scanning import Scan

BLOCK = 1 << 20  # bytes read at a time


def source_of(
    path: Path | str, scan: Scan, decoder: str, missing: Iterable[float] = (), sha256: str | None = None
) -> Source:
    """The `Source` record of the video at `path`. Reads the whole file for its SHA-256, unless that is given.

    `decoder` is the name of the reader, `missing` the times in seconds of chosen frames that it could not decode.
    """
    path = Path(path)
    return Source(
        name=path.name or path.resolve().name,
        bytes=state_of(path)[0],
        sha256=checksum_of(path) if sha256 is None else sha256,
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


def checksum_of(path: AnyPath, stopped: Callable[[], bool] = lambda: False) -> str:
    """The SHA-256 of a file, by which a video is recognised later; that of its beginning once it is `stopped`.

    That of images is of all their bytes, one image after another.
    """
    digest = hashlib.sha256()
    files = image_files(path) if isinstance(path, Path) else ()
    with span("checksum"):
        for part in files or (path,):
            with part.open("rb") as file:
                while (block := file.read(BLOCK)) and not stopped():
                    digest.update(block)
    return digest.hexdigest()


@contextmanager
def checksum_beside(path: Path) -> Iterator[Callable[[], str]]:
    """Read the SHA-256 of a file in a thread during the block, which gets it, or the error, by a call.

    What else reads the file at the time finds it in memory, and hashing leaves Python to others.
    """
    stopped = threading.Event()
    with ThreadPoolExecutor(1, thread_name_prefix="checksum") as thread:
        try:
            yield thread.submit(checksum_of, path, stopped.is_set).result
        finally:
            stopped.set()
