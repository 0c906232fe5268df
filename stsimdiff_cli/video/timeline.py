"""Determines which frames a video shows, when, and where decoding must begin for each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av
import numpy as np

from .packets import NO_TIME, FirstFrame, Packets, one_thread

LONGEST_DELAY = 16  # the most frames that a decoder holds back to reorder them (H.264, HEVC)
ASKED = 64  # packets after a doubtful one that are decoded: 16 that a decoder may hold back, and some GOPs
USUAL_RATE = 25.0  # what FFmpeg assumes for streams that do not state a rate


@dataclass(frozen=True, eq=False)
class Timeline:
    """The n frames of a video in presentation order."""

    seconds: np.ndarray  # (n,) float64, from the first frame
    position: np.ndarray  # (n,) int64, packet of each frame
    entry: np.ndarray  # (n,) int64, key packet from which the frame can be decoded
    duration: float  # seconds


def by_time_stamps(packets: Packets, first: FirstFrame, tick: float, rate: float | None) -> Timeline:
    """The frames according to the times of their packets.

    Packets that an edit list cuts off, packets without a time, and all before the first key frame, in the file or in
    time, are not shown: a stream that was cut in the middle begins with pictures without their references. Where the
    picture is refreshed gradually, frames are shown after two refreshes instead.
    """
    keys = np.flatnonzero(packets.key & packets.timed)
    shown = packets.timed & ~packets.discard
    if len(keys):
        whole = _first_whole(packets, keys)
        after_key = np.arange(len(packets)) >= whole
        begin = packets.pts[whole]
        if whole == keys[0] and first.clean and first.pts is not None and (packets.pts[after_key] == first.pts).any():
            begin = min(begin, first.pts)  # decodable pictures before the key frame (HEVC's RADL)
        shown &= after_key & (packets.pts >= begin)
    position = np.flatnonzero(shown)
    pts, once = np.unique(packets.pts[position], return_index=True)  # (n,) sorted
    position = position[once]
    seconds = (pts - pts[:1]) * tick
    last = packets.duration[position[-1]] * tick if len(position) else 0.0
    return Timeline(seconds, position, _entries(packets, keys, pts, position), _end(seconds, last, rate))


def _first_whole(packets: Packets, keys: np.ndarray) -> int:
    """The packet from which pictures are complete if decoding begins at keys[0].

    If decoding begins at a refresh, one refresh is not always enough: FFmpeg lacks references, and delivers grey
    pictures until the next one ends (streams of x264 without B-frames).
    """
    if not packets.refresh[keys[0]]:
        return int(keys[0])
    refreshes = np.flatnonzero(packets.refresh & packets.timed)[:3]
    return int(min([refreshes[-1], *keys[1:2]]))


def _entries(packets: Packets, keys: np.ndarray, pts: np.ndarray, position: np.ndarray) -> np.ndarray:
    """For each frame, the last key packet that is neither shown nor stored after it: (n,).

    A picture that follows a key frame in the file but is shown before it needs the key frame before that one.
    """
    if not len(keys):
        return np.zeros(len(pts), np.int64)
    by_time = keys[np.argsort(packets.pts[keys], kind="stable")]
    rank = np.searchsorted(packets.pts[by_time], pts, side="right") - 1
    in_time = np.where(rank >= 0, by_time[np.maximum(rank, 0)], keys[0])
    return np.minimum(in_time, packets.last_key[position])


def _end(seconds: np.ndarray, last: float, rate: float | None) -> float:
    """Seconds to the end of the last frame: with its own duration, or the usual one if that is unknown."""
    if not len(seconds):
        return 0.0
    if last <= 0:
        last = float(np.median(np.diff(seconds))) if len(seconds) > 1 else (1 / rate if rate else 0.0)
    return float(seconds[-1] + last)


def why_counted(packets: Packets, tick: float) -> str | None:
    """A sentence that says why times cannot identify the frames, as the packets show; None if they may."""
    if not packets.timed.any():
        return "The file stores no times."
    if len(np.unique(packets.pts[packets.timed])) * 3 < len(packets):
        return "Most frames in the file have no time of their own."
    dts = packets.dts[packets.dts != NO_TIME]
    back = np.flatnonzero(np.diff(dts) * tick < -1)
    if len(back):
        return f"The times in the file jump back after {(dts[back[0]] - dts[0]) * tick:.1f} s."
    return None


def doubtful(packets: Packets, reorders: bool) -> np.ndarray:
    """The packets around which a decoder must be asked whether times identify the frames: positions, increasing.

    A packet without a time of its own may hold a frame, or only a part of one (its second field). Times that increase
    from packet to packet, although the decoder is ready to reorder pictures (`reorders`), may be those of decoding.
    """
    taken = np.zeros(len(packets), bool)
    _, first = np.unique(packets.pts, return_index=True)
    taken[first] = True
    suspects = np.flatnonzero(~(packets.timed & taken))
    if reorders and (np.diff(packets.pts[packets.timed & taken]) > 0).all():
        suspects = np.union1d(np.flatnonzero(packets.key)[:1], suspects)
    return suspects


def why_doubted(container: Any, stream: Any, packets: Packets, suspects: np.ndarray) -> str | None:
    """A sentence that says why times cannot identify the frames, as a decoder shows near `suspects`; None if they can.

    A decoder delivers frames in the order in which they are shown, each with the time of its packet. Decodes a part of
    the file: up to `ASKED` packets after the first suspect and its key packet, and after the last.
    """
    asked = np.zeros(len(packets), bool)
    for suspect in (suspects[0], suspects[len(suspects) // 2], suspects[-1]):
        key = packets.last_key[max(suspect - 1, 0)]  # with the frame before, which may have the same time
        asked[max(int(key), 0) : suspect + ASKED] = True
    one_thread(stream)
    before: int | None = None
    position, asking = -1, False
    for packet in _packets(container, stream):
        position += packet.size > 0
        if packet.size and not asked[position]:
            before, asking = None, False
            continue
        if not asking:
            stream.codec_context.flush_buffers()
            asking = True
        try:
            frames = packet.decode()
        except av.FFmpegError:
            before = None
            continue
        for frame in frames:
            if frame.is_corrupt:
                before = None
                continue
            if frame.pts is None or frame.pts == before:
                return "Some frames in the file have no time of their own."
            if before is not None and frame.pts < before:
                return "The file stores when frames are decoded, not when they are shown."
            before = frame.pts
    return None


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    """The packets of a stream, up to the first that cannot be read."""
    packets = container.demux(stream)
    while True:
        try:
            yield next(packets)
        except (StopIteration, av.FFmpegError):
            return


def by_counting(container: Any, stream: Any, packets: Packets, tick: float, rate: float | None) -> Timeline:
    """The frames as a decoder delivers them from the beginning. Decodes the whole file.

    Frame i is the i-th that the decoder delivers; every run must therefore decode in the same way. Times are estimates:
    the stored ones in increasing order where there is one for each frame, else at a constant rate, where a packet
    without a frame leaves a gap. `position` is the packet after which a frame was delivered, so the frame depends on no
    later packet. `entry` is a key packet safely before the frame's own.
    """
    came_after = np.array(_decode_order(container, stream, len(packets)), np.int64)  # (n,)
    gap = _usual_gap(packets) * tick or 1 / (rate or USUAL_RATE)
    key = np.maximum.accumulate(np.where(packets.key, np.arange(len(packets)), 0))
    entry = key[np.maximum(came_after - LONGEST_DELAY, 0)] if len(packets) else came_after
    stored = np.unique(packets.pts[packets.timed])
    if len(stored) == len(came_after):
        seconds = (stored - stored[:1]) * tick
        return Timeline(seconds, came_after, entry, _end(seconds, gap, rate))
    slot = np.arange(len(came_after))
    if len(slot):
        slot = slot + np.maximum.accumulate(np.maximum(came_after - came_after[0] - slot, 0))
    return Timeline(slot * gap, came_after, entry, float(slot[-1] + 1) * gap if len(slot) else 0.0)


def _usual_gap(packets: Packets) -> float:
    """Ticks from one packet to the next, 0 if unknown."""
    known = np.flatnonzero(packets.dts != NO_TIME)
    if len(known) > 1:
        return max(float(np.median(np.diff(packets.dts[known]) / np.diff(known))), 0.0)
    return float(np.median(packets.duration)) if len(packets) else 0.0


def _decode_order(container: Any, stream: Any, count: int) -> list[int]:
    """For each frame of the whole file, the packet after which it was delivered."""
    one_thread(stream)
    came_after: list[int] = []
    source = container.demux(stream)
    position = -1
    while True:
        try:
            packet = next(source)
            position += packet.size > 0
            came_after += [position] * len(packet.decode())
        except StopIteration:
            return came_after
        except av.FFmpegError:
            if position + 1 >= count:
                return came_after
