"""Reads videos: scans a file, chooses frames, and delivers exactly those.

stream = open_stream(path, Sampling(frames=32))    scanned, chosen, and decoded while it is used
for frames in stream.chunks: ...

scan.py and its helpers say what is in a file; sampling.py which frames to read; reading.py delivers them, with
pyav_reader.py, decord_reader.py or torchcodec_reader.py; rechunk.py and prefetch.py change how they arrive.
"""

from __future__ import annotations

from pathlib import Path

from ..records import FrameStream
from .reading import READERS, decoder_for, read_frames
from .sampling import DEFAULT_FRAMES, Sampling, choose_frames
from .scanning import Scan, scan
from .source import source_of

__all__ = [
    "DEFAULT_FRAMES",
    "READERS",
    "Sampling",
    "Scan",
    "choose_frames",
    "decoder_for",
    "open_stream",
    "read_frames",
    "scan",
    "source_of",
]


def open_stream(path: str | Path, sampling: Sampling, chunk: int = 8) -> FrameStream:
    """The chosen frames of a video, `chunk` at a time; the whole file is read once for its SHA-256.

    Raises RequestError for a wrong request, and VideoError for a video that cannot be read, here or while it is used.
    """
    path = Path(path)
    found = scan(path)
    decoder = decoder_for(found, sampling.decoder)
    chosen = choose_frames(found, sampling)
    source = source_of(path, found, decoder)
    return FrameStream(source, len(chosen), read_frames(path, found, chosen, chunk=chunk, decoder=decoder))
