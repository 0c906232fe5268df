"""The packets of a video stream, as every decoder receives them from the demuxer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import av
import numpy as np

from .ffmpeg_log import Message, listening
from .nal_units import begins_refresh, length_size
from .orientation import UPRIGHT, Orientation, orientation_of

UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED
NO_TIME = np.iinfo(np.int64).min


@dataclass(frozen=True, eq=False)
class Packets:
    """The p packets of a stream in file order, which is decoding order."""

    pts: np.ndarray  # (p,) int64, presentation time in ticks, NO_TIME where the file has none
    dts: np.ndarray  # (p,) int64, decoding time in ticks, NO_TIME where the file has none
    duration: np.ndarray  # (p,) int64, ticks, 0 if unknown
    size: np.ndarray  # (p,) int64, bytes
    key: (
        np.ndarray
    )  # (p,) bool, decoding can begin here; the start of a refresh counts only if it is the first marked as key
    discard: np.ndarray  # (p,) bool, needed for decoding but not to be shown (edit list)
    refresh: np.ndarray  # (p,) bool, marked as key but without a complete picture: a gradual refresh begins (H.264)

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def timed(self) -> np.ndarray:
        """(p,) bool, packets with a presentation time."""
        return self.pts != NO_TIME

    @cached_property
    def last_key(self) -> np.ndarray:
        """(p,) int64, position of the last key packet with a time at or before each packet, -1 if there is none."""
        keys = np.where(self.key & self.timed, np.arange(len(self)), -1)
        return np.maximum.accumulate(keys)


@dataclass(frozen=True)
class FirstFrame:
    """The first frame that a decoder delivers from the beginning of the file."""

    pts: int | None
    width: int  # pixels as stored
    height: int
    orientation: Orientation = UPRIGHT
    clean: bool = True  # neither it nor a packet before it was damaged
    matrix: int = UNSPECIFIED  # how YUV becomes RGB: FFmpeg's AVColorSpace


@dataclass(frozen=True)
class PacketScan:
    """What reading a whole file, without decoding it, tells."""

    packets: Packets
    first: FirstFrame | None  # None if nothing can be decoded
    cut_short: bool  # the file ends inside a packet
    broken: tuple[int, ...]  # before which packets (p after the last) the demuxer met damage


def read_packets(container: Any, stream: Any, heard: list[Message]) -> PacketScan:
    """Read every packet of `stream`, and decode until there is a first frame.

    `heard` are the demuxer's errors when the file was opened: it reads packets then that it hands out later.
    """
    with listening() as log:
        log.extend(heard)
        return _read_packets(container, stream, log)


def _read_packets(container: Any, stream: Any, log: list[Message]) -> PacketScan:
    rows: list[tuple[int, int, int, int, bool, bool, bool]] = []
    first, clean, cut_short = None, True, False
    broken: list[int] = []
    one_thread(stream)
    is_h264, lengths = stream.codec_context.name == "h264", length_size(stream.codec_context.extradata)
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError:
            cut_short = True
            break
        if log:
            broken.append(len(rows))
            log.clear()
        if packet is None:
            break
        if first is None:
            try:
                frames = packet.decode()
            except av.FFmpegError:
                frames, clean = [], False
            if frames:
                first = _describe(frames[0], clean)
            log.clear()
        refresh = is_h264 and packet.is_keyframe and begins_refresh(bytes(packet), lengths)
        if packet.size:  # an empty packet follows the last one, to flush the decoder
            rows.append(
                (
                    NO_TIME if packet.pts is None else packet.pts,
                    NO_TIME if packet.dts is None else packet.dts,
                    packet.duration or 0,
                    packet.size,
                    packet.is_keyframe,
                    packet.is_discard,
                    refresh,
                )
            )
            cut_short = packet.is_corrupt
    table = np.array(rows, dtype=np.int64).reshape(len(rows), 7)
    pts, dts, duration, size = table.T[:4]
    marked, discard, refresh = table.T[4:].astype(bool)
    key = marked & ~(refresh & (np.cumsum(marked) > 1))
    return PacketScan(Packets(pts, dts, duration, size, key, discard, refresh), first, cut_short, tuple(broken))


def one_thread(stream: Any) -> None:
    """Decode in the calling thread, so that the frames of a damaged file do not depend on the machine."""
    stream.codec_context.thread_type = "SLICE"
    stream.codec_context.thread_count = 1


def _describe(frame: Any, clean: bool) -> FirstFrame:
    sound = clean and not frame.is_corrupt
    return FirstFrame(frame.pts, frame.width, frame.height, orientation_of(frame), sound, int(frame.colorspace))
