"""Reads videos: scans a file, chooses frames, and delivers exactly those.

    stream = open_stream(path, Sampling(frames=32))    scanned at once, decoded while it is consumed
    for frames in stream.chunks: ...

scanning.py     what is in a file, from its packets (opening, packets, nal_units, orientation, timeline)
sampling.py     which frames to read
reading.py      reads them with pyav_reader.py (and its finding, decoding), decord_reader.py or torchcodec_reader.py
workers.py      reads them with several of these at a time, each a part (dividing.py)
chunks.py       delivers them in order
source.py       the record of the file that frames came from
rechunk.py      regroups frames into chunks of one size
"""

from __future__ import annotations

from pathlib import Path

from ..records import FrameStream
from .opening import check_file
from .reading import READERS, decoder_for, read_frames
from .sampling import DEFAULT_FRAMES, SPREADS, Sampling, choose_frames, seconds_per_frame
from .scanning import Scan, scan
from .source import checksum_beside, source_of

__all__ = [
    "DEFAULT_FRAMES",
    "READERS",
    "SPREADS",
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
    """The chosen frames of a video, `chunk` at a time. The whole file is also read for its SHA-256, at the
    same time as it is scanned.

    Raises RequestError for a wrong request, and VideoError for a video that cannot be read: here, or while the frames
    are consumed.
    """
    path = Path(path)
    check_file(path)  # a pipe must not be read for its checksum
    with checksum_beside(path) as checksum:
        video = scan(path)
        decoder = decoder_for(video, sampling.decoder)
        indices = choose_frames(video, sampling)
        chunks = read_frames(path, video, indices, chunk, decoder, sampling.workers)
        source, period = (
            source_of(path, video, decoder, sha256=checksum()),
            seconds_per_frame(video, sampling, len(indices)),
        )
        return FrameStream(source, len(indices), chunks, period, sampling.size)
