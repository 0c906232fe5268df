"""The packets of a video stream, as a demuxer hands them out: what every decoder meets."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import av
import numpy as np

from .nal_units import begins_refresh, length_size
from .orientation import UPRIGHT, Orientation, orientation_of

NO_TIME = np.iinfo(np.int64).min


@dataclass(frozen=True, eq=False)
class Packets:
    """The p packets of a stream in the order of the file, which is the order of decoding."""

    pts: np.ndarray  # (p,) int64, time of showing in ticks, NO_TIME where the file gives none
    dts: np.ndarray  # (p,) int64, time of decoding in ticks, NO_TIME likewise
    duration: np.ndarray  # (p,) int64, ticks, 0 if unknown
    size: np.ndarray  # (p,) int64, bytes
    key: np.ndarray  # (p,) bool, decoding can begin here; a refresh only if it is the first that is marked as key
    discard: np.ndarray  # (p,) bool, needed for decoding but not to be shown (edit list)
    refresh: np.ndarray  # (p,) bool, marked as key but no whole picture: a refresh bit by bit begins (H.264)

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def timed(self) -> np.ndarray:
        """(p,) bool, packets with a time of showing."""
        return self.pts != NO_TIME

    @cached_property
    def last_key(self) -> np.ndarray:
        """(p,) int64, position of the last key packet with a time up to each packet, -1 if there is none."""
        here = np.where(self.key & self.timed, np.arange(len(self)), -1)
        return np.maximum.accumulate(here)


@dataclass(frozen=True)
class FirstFrame:
    """The first frame that a decoder delivers from the beginning of the file."""

    pts: int | None
    width: int  # pixels as stored
    height: int
    orientation: Orientation = UPRIGHT
    clean: bool = True  # no packet before it was damaged


@dataclass(frozen=True)
class PacketScan:
    """All packets, the first frame (None if nothing can be decoded), and whether the file ends in a packet."""

    packets: Packets
    first: FirstFrame | None
    cut_short: bool


def read_packets(container: Any, stream: Any) -> PacketScan:
    """Read every packet of `stream`; decode until the first frame comes out."""
    rows: list[tuple[int, int, int, int, bool, bool, bool]] = []
    first, clean, cut_short = None, True, False
    is_h264, lengths = stream.codec_context.name == "h264", length_size(stream.codec_context.extradata)
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError:
            cut_short = True
            break
        if packet is None:
            break
        if first is None:
            try:
                frames = packet.decode()
            except av.FFmpegError:
                frames, clean = [], False
            if frames:
                first = _describe(frames[0], clean)
        refresh = is_h264 and packet.is_keyframe and begins_refresh(bytes(packet), lengths)
        if packet.size:  # the packet after the last one is empty: it makes the decoder hand out what it holds
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
    return PacketScan(Packets(pts, dts, duration, size, key, discard, refresh), first, cut_short)


def _describe(frame: Any, clean: bool) -> FirstFrame:
    return FirstFrame(frame.pts, frame.width, frame.height, orientation_of(frame), clean and not frame.is_corrupt)
