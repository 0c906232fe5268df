"""Reads videos: scans a file, chooses frames, and delivers exactly those.

    stream = open_stream(path, Sampling(frames=32))    scanned at once, decoded while it is consumed
    for frames in stream.chunks: ...

scanning.py     what is in a file, from its packets (opening, packets, nal_units, orientation, timeline)
images.py       the same for a folder or a list of images, and reads them
sampling.py     which frames to read
reading.py      reads them with pyav_reader.py (and its finding, decoding), decord_reader.py or torchcodec_reader.py
workers.py      reads them with several of these at a time, each a part (dividing.py)
chunks.py       delivers them in order
source.py       the record of the file that frames came from
rechunk.py      regroups frames into chunks of one size
"""

from __future__ import annotations

from pathlib import Path

from ..errors import RequestError
from ..records import FrameStream
from ..storage.image_files import is_images
from .images import scan_images
from .opening import check_file
from .reading import READERS, decoder_for, read_frames
from .sampling import DEFAULT_FRAMES, SPREADS, NoSuchPartError, Sampling, choose_frames, seconds_per_frame
from .scanning import Scan, scan_file
from .source import checksum_beside, source_of

__all__ = [
    "DEFAULT_FRAMES",
    "READERS",
    "SPREADS",
    "NoSuchPartError",
    "Sampling",
    "Scan",
    "choose_frames",
    "decoder_for",
    "open_stream",
    "read_frames",
    "scan",
    "source_of",
]


def scan(path: str | Path, image_fps: float | None = None) -> Scan:
    """Scan the video at `path`: a file, or a folder or list of images, of which `image_fps` are shown a second.

    Raises RequestError if there is no such file, for an impossible rate, and for a rate where there are no images;
    VideoError if there is no video stream, or no frame can be decoded.
    """
    path = Path(path)
    if is_images(path):
        return scan_images(path, image_fps)
    if image_fps is not None:
        raise RequestError(f"{str(path)!r} is not a folder or a list of images.", "Leave out --image-fps.")
    return scan_file(path)


def open_stream(path: str | Path, sampling: Sampling, chunk: int = 8) -> FrameStream:
    """The chosen frames of a video, `chunk` at a time. The whole file is also read for its SHA-256, at the
    same time as it is scanned.

    Raises RequestError for a wrong request, and VideoError for a video that cannot be read: here, or while the frames
    are consumed.
    """
    path = Path(path)
    check_file(path)  # a pipe must not be read for its checksum
    with checksum_beside(path) as checksum:
        video = scan(path, sampling.image_fps)
        decoder = decoder_for(video, sampling.decoder)
        indices = choose_frames(video, sampling)
        chunks = read_frames(path, video, indices, chunk, decoder, sampling.workers)
        source, period = (
            source_of(path, video, decoder, sha256=checksum()),
            seconds_per_frame(video, sampling, len(indices)),
        )
        return FrameStream(source, len(indices), chunks, period, sampling.size)
