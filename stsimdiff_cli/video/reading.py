"""Reads the chosen frames of a video with one of three readers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from ..errors import RequestError
from ..registry import Entry, Table, unknown_name
from .chunks import FrameChunks, OneReader, Source
from .dividing import divide, workers_for
from .images import ImageReader
from .pyav_reader import PyavReader
from .scanning import Scan
from .workers import Workers

_BASE = "stsimdiff_cli.video"

READERS = Table(
    "video reader",
    {
        "pyav": Entry(f"{_BASE}.pyav_reader:PyavReader", "finds each frame by its time, reports damage; the default"),
        "decord": Entry(
            f"{_BASE}.decord_reader:DecordReader",
            "refused for files on which it is wrong",
            install="pip install decord",
        ),
        "torchcodec": Entry(
            f"{_BASE}.torchcodec_reader:TorchcodecReader",
            "refused for files on which it is wrong",
            install="pip install 'stsimdiff[torchcodec]'",
        ),
    },
)
AUTO = "auto"
#: What reads images; it is not chosen.
IMAGES = "pillow"


class Reader(Protocol):
    """A video reader. `refusal` and `require` are called before a reader is created."""

    name: str

    @classmethod
    def refusal(cls, scan: Scan) -> str | None:
        """Why this reader would deliver wrong frames of this file, to end a sentence with; None if it is right."""

    @classmethod
    def require(cls) -> None:
        """Raise RequestError, with the command that installs it, if the reader is not installed."""

    def read(self, indices: Sequence[int], pixels: Tensor) -> list[bool]:
        """Write frame `indices[k]` to pixels[k] (height, width, 3) uint8; False where it cannot be decoded."""

    def cancel(self) -> None:
        """Let a read in progress, in another thread, end soon with StoppedError."""

    def close(self) -> None:
        """Close the file."""


def decoder_for(scan: Scan, wanted: str = AUTO) -> str:
    """The name of the reader to use: "pyav", "decord" or "torchcodec"; "pillow" for images, which no other reads.

    "auto" is PyAV for every file, for two reasons. Speed: for 64 frames from a 10-minute 1280x720 H.264 clip (two
    cores, medians of five runs, including opening and indexing) PyAV takes 7.6 s and decord 9.8 s; with a key frame
    every two seconds, 3.8 s and 6.4 s, in 0.4 GB and 1.0 GB. (These times are from before PyAV skipped pictures that
    it does not need: see `Decoding`.) Exactness: on eleven kinds of awkward files PyAV never delivered a wrong frame,
    while decord was silently wrong in open GOPs (H.264 and the defaults of HEVC), showed frames that an edit list cuts
    off, and hung on MPEG-TS. torchcodec was even faster (5.7 s and 2.7 s), but wrong on edit lists, and it needs a
    matching system FFmpeg. Where H.264 pictures are refreshed gradually, both deliver wrong ones.

    A reader requested by name is used if it is right on the file. Raises RequestError, with the reason, if it would
    deliver wrong frames, if the name is unknown, and if the reader is not installed.
    """
    if scan.images and wanted in (AUTO, IMAGES):
        return IMAGES
    if wanted == AUTO:
        return "pyav"
    if wanted not in READERS:
        raise unknown_name(READERS.what, wanted, [AUTO, *READERS])
    if scan.images:
        raise RequestError(f"--decoder {wanted} cannot be used for images, which Pillow reads.", "Use --decoder auto.")
    reader = READERS.load(wanted)
    reason = reader.refusal(scan)
    if reason:
        raise RequestError(f"--decoder {wanted} cannot be used for this video: {reason}.", "Use --decoder auto.")
    reader.require()
    return wanted


def read_frames(
    path: Path | str,
    scan: Scan,
    indices: Sequence[int],
    chunk: int = 8,
    decoder: str = AUTO,
    workers: int | None = 1,
) -> FrameChunks:
    """The frames at `indices` (strictly increasing, into `scan.seconds`), at most `chunk` at a time.

    Each `Frames` covers the next `chunk` indices: `pixels` (n, height, width, 3) uint8 RGB with n <= chunk, rotation
    applied, their `seconds`, and the `missing_seconds` of frames that cannot be decoded; n may be 0. Pixels are as
    stored: not scaled to the display aspect ratio, not deinterlaced, HDR not mapped to SDR. The file is closed at the
    end, or when the iterator is closed.

    `workers` decode at the same time (None: as many as there are cores but one), each other groups of pictures. What
    is delivered does not depend on it. One worker holds one chunk of pixels, until the consumer releases it; more hold
    two chunks each, or fewer where memory is scarce.

    Raises RequestError as `decoder_for`, and for workers of another reader than PyAV, before anything is read;
    VideoError at the end if no frame could be decoded, or if the file changes while it is read.
    """
    chosen = [int(i) for i in indices]
    if chunk < 1:
        raise ValueError(f"expected a chunk of at least 1 frame, got {chunk}")
    if any(b <= a for a, b in itertools.pairwise(chosen)):
        raise ValueError(f"expected strictly increasing indices, got {chosen}")
    if chosen and not 0 <= chosen[0] <= chosen[-1] < scan.frames:
        raise ValueError(f"expected indices from 0 to {scan.frames - 1}, got {chosen[0]} to {chosen[-1]}")
    name, path = decoder_for(scan, decoder), Path(path)
    count = workers_for(workers)
    reader = ImageReader if name == IMAGES else READERS.load(name)
    if reader not in (PyavReader, ImageReader) and workers is not None and count > 1:
        raise RequestError(f"{name} cannot decode with {count} workers.", "Use --decoder auto or --decode-workers 1.")
    return FrameChunks(path, scan, chosen, chunk, _source(reader, path, scan, chosen, chunk, count))


def _source(reader: Any, path: Path, scan: Scan, chosen: list[int], chunk: int, workers: int) -> Source:
    shape = scan.height, scan.width
    if reader not in (PyavReader, ImageReader):
        return OneReader(lambda: reader(path, scan), chosen, chunk, shape)
    division = divide(scan, chosen, chunk, workers)
    if division.workers == 1:
        options = {"threads": division.threads} if reader is PyavReader else {}
        return OneReader(lambda: reader(path, scan, **options), chosen, chunk, shape)
    options = {"threads": division.threads, "scaling": 1} if reader is PyavReader else {}
    return Workers(lambda: reader(path, scan, **options), division, chosen, chunk, shape)
