"""Decodes a video forward from a key packet, and keeps track of damage."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av

from ..errors import VideoError
from .ffmpeg_log import listening, not_threaded, threaded
from .nal_units import length_size, unreferenced
from .opening import open_video
from .packets import NO_TIME, one_thread
from .scanning import Scan


def decode_threads() -> int:
    """The number of threads of a decoder that is given none: up to 4 on a machine with 4 cores or more, else 1.

    It listens for decord or torchcodec, for which no workers are divided.

    For 32 frames of a 200-second 1280x720 H.264 clip with a key frame every 250, two shared cores took 3.0 to 4.7 s
    with one thread and 3.0 to 3.6 s with four, a difference smaller than the effect of other load. One thread locates
    damage more exactly (see `Decoding.lateness`), so more are used only where cores are idle.
    """
    cores = os.cpu_count() or 1
    return min(cores, 4) if cores >= 4 else 1


#: Decoders that mark damage in what they return. They also complain in FFmpeg's log, but not of damage alone: after a
#: seek, of pictures whose references are not there (open GOPs). The others say in the log alone what they met. Where
#: frames are counted, there are no seeks, and all are listened to.
FLAGGING = ("h264", "hevc", "av1")


def threadable(scan: Scan) -> bool:
    """True if several threads may decode: if nothing has to be heard in FFmpeg's log."""
    return scan.counted is None and scan.codec in FLAGGING


class Decoding:
    """A decoder that runs forward through a file.

    After a seek, every packet must be the one that the scan saw at that position (same time, same size). That is how
    the decoder knows its position without trusting seeks. If seeks in a file go wrong, it is decoded from the beginning
    instead.
    """

    def __init__(self, path: Path, scan: Scan, threads: int) -> None:
        self._container: Any = None
        self.threads = 1
        self.path, self.scan = path, scan
        self._most_threads = threads if threadable(scan) else 1
        self.pending: deque[tuple[int, Any]] = deque()  # (time in ticks, or the count), frame
        self.seekable = scan.counted is None
        self.cancelled = False  # set from another thread: the next packet is not decoded
        packets = scan.packets
        self.goal: tuple[int, int] | None = None  # packet and time of the frame that is wanted
        self._may_skip = scan.codec == "h264" and scan.counted is None  # HEVC marks only layers, other codecs nothing
        self._keys = {int(packets.pts[k]): int(k) for k in (packets.key & packets.timed).nonzero()[0]}
        self._refreshes = set(packets.pts[packets.refresh & ~packets.key].tolist())
        self.restart(0)

    def __del__(self) -> None:
        self.close()  # or FFmpeg's log would stay off

    def close(self) -> None:
        """Close the file."""
        if self._container is not None:
            self._container.close()
            self._container = None
            del self._stream, self._packets  # the decoder and its threads end with the last reference
        if self.threads > 1:
            self.threads = 1
            not_threaded()

    def restart(self, entry: int) -> None:
        """Start decoding at the key packet `entry`, or at an earlier one if the file cannot be entered there."""
        if entry > 0 and self.seekable:
            if self._enter(entry):
                return
            self.seekable = False
        self._begin()

    def _begin(self) -> None:
        self.close()
        self._container, self._stream = open_video(self.path)
        if self._most_threads > 1 and threaded():
            self.threads = self._most_threads
            self._stream.codec_context.thread_type = "FRAME"
            self._stream.codec_context.thread_count = self.threads
        else:
            one_thread(self._stream)
        self._packets = self._container.demux(self._stream)
        self._lengths = length_size(self._stream.codec_context.extradata)
        self._skipping = False
        self._clear(0)

    def _clear(self, start: int, unread: Any = None) -> None:
        self.pending.clear()
        self._sought = unread is not None
        self._unread = unread  # a packet that was read to learn where a seek ended
        self.start = self.next = start  # position of the first and of the next packet
        self.ended = False
        self.shown: int | None = None  # time of the last frame taken
        self._count = 0
        self._damage: list[tuple[int, int]] = []  # first and last packet that may be affected, for each damage
        self._inside: dict[int, int] = {}  # time and packet of pictures that the decoder has and may still deliver

    def _enter(self, entry: int) -> bool:
        """Seek to `entry`, or to a key packet before it; False if that fails."""
        packets = self.scan.packets
        before = int(packets.last_key[entry - 1])
        targets = [packets.pts[entry], packets.dts[entry]] + ([packets.pts[before]] if before >= 0 else [])
        for ticks in targets:
            if ticks == NO_TIME:
                continue
            try:
                self._container.seek(int(ticks), stream=self._stream, backward=True)
                self._packets = self._container.demux(self._stream)
                packet = self._next_key()
            except av.FFmpegError:
                continue
            position = self._keys.get(packet.pts) if packet is not None and packet.pts is not None else None
            if position is not None and position <= entry and packets.size[position] == packet.size:
                self._clear(position, packet)
                return True
        return False

    def _next_key(self) -> Any:
        """The next packet that is marked as key and does not begin a gradual refresh; None if there is none."""
        return next((p for p in self._packets if p.is_keyframe and p.size and p.pts not in self._refreshes), None)

    def frames(self) -> Iterator[tuple[int, Any]]:
        """Yield and remove the pending frames, in the order in which the decoder delivered them."""
        while self.pending:
            self.shown, frame = self.pending.popleft()
            yield self.shown, frame

    def feed(self) -> None:
        """Decode one more packet into `pending`. Sets `ended` after the last one. StoppedError if cancelled."""
        if self.cancelled:
            raise StoppedError
        if self.scan.codec in FLAGGING and not self.scan.counted:
            self._feed()
            return
        position = self.next
        with listening() as log:
            self._feed()
        if log:
            self._damaged(position)

    def _feed(self) -> None:
        packet = self._read()
        if packet is None:
            return
        position = self.next
        if packet.size:
            self._check_place(packet)
            self.next += 1
        else:
            self.ended = True
        if packet.is_corrupt:
            self._damaged(position)
        if self._may_skip:
            self._skip(packet, position)
        if packet.size and packet.pts is not None and not self._skipping:
            self._inside[packet.pts] = position
        try:
            frames = packet.decode()
        except av.FFmpegError:
            self._damaged(position)
            return
        self._deliver(frames, position)
        if self.ended and self.threads > 1:  # threads may end without a word about a picture that one would report
            for place in self._inside.values():
                self._damaged(position, place - 1)

    def _deliver(self, frames: list[Any], position: int) -> None:
        for frame in frames:
            stamp = self._count if self.scan.counted else frame.pts
            self._count += 1
            if frame.is_corrupt:
                self._damaged(position, self._inside.get(frame.pts, position))
            if stamp is not None:
                self.pending.append((stamp, frame))
            if frame.pts is not None:  # what is shown earlier and has not been delivered will not be
                self._inside = {time: place for time, place in self._inside.items() if time > frame.pts}

    def _skip(self, packet: Any, position: int) -> None:
        """Let the decoder skip the picture in `packet` if it is not needed.

        A picture is not needed if it is stored and shown before the wanted frame and no other picture refers to it.
        The packet itself is parsed, because FFmpeg does not report empty packets while it skips. A packet without a
        time may be the second field of a picture, so it is treated like the packet before it.
        """
        skip = self._skipping
        if packet.pts is not None:
            skip = self.goal is not None and position < self.goal[0] and packet.pts < self.goal[1]
        skip = skip and packet.size > 0 and unreferenced(bytes(packet), self._lengths)
        if skip != self._skipping:
            self._stream.codec_context.skip_frame = "NONREF" if skip else "DEFAULT"
            self._skipping = skip

    def _read(self) -> Any:
        packet, self._unread = self._unread, None
        while packet is None:
            try:
                packet = next(self._packets)
            except (StopIteration, av.FFmpegError):  # the scan ended here too
                self.ended = True
                return None
            if not packet.size and (packet.pts is not None or packet.dts is not None):
                packet = None  # an empty packet in the middle of the file (AVI) would end decoding
        return packet

    def _check_place(self, packet: Any) -> None:
        packets, position = self.scan.packets, self.next
        pts = NO_TIME if packet.pts is None else packet.pts
        if position < len(packets) and packets.pts[position] == pts and packets.size[position] == packet.size:
            return
        if not self._sought:
            raise VideoError(f"{str(self.path)!r} changed while it was read.", "Run it again when it is complete.")
        raise AstrayError

    def _damaged(self, position: int, source: int | None = None) -> None:
        """Record damage that was noticed at `position`, in the picture of the packet `source` if that is known.

        A decoder often notices damage late: damage in one packet may only make the next one undecodable, and with
        threads an error is reported up to `threads` packets later.
        """
        self._damage.append((min(position - self.lateness, position if source is None else source), position))

    @property
    def lateness(self) -> int:
        """How many packets after a frame's own must be decoded before the frame can be trusted."""
        return self.threads if self.threads > 1 else 1

    def holds(self, position: int) -> bool:
        """True if a picture stored up to `position` is still to be delivered, and may then be marked as damaged.

        A picture that others are predicted from may be shown, and so delivered, after them.
        """
        return threadable(self.scan) and any(place <= position for place in self._inside.values())

    @property
    def damaged_from(self) -> int | None:
        """The first packet since the start that may be damaged; None if there is none."""
        return self._damage[0][0] if self._damage else None

    def clean(self, entry: int, position: int) -> bool:
        """True if no packet from `entry` to `position` can be damaged."""
        return not any(first <= position and last >= entry for first, last in self._damage)


class AstrayError(Exception):
    """After a seek, the packets were not those of the scan."""


class StoppedError(Exception):
    """Nobody needs what was being read any more."""
