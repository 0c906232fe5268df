"""Decodes a video from a key packet forward, and keeps account of damage."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av

from ..errors import VideoError
from .nal_units import length_size, unreferenced
from .opening import open_video
from .packets import NO_TIME
from .scanning import Scan
from .timeline import one_thread


def decode_threads() -> int:
    """Threads that decode frames side by side, 1 for none.

    For 32 frames of a 200-second 1280x720 H.264 clip with a key frame every 250, two shared cores took 3.0 to 4.7 s
    with one thread and 3.0 to 3.6 s with four, which is less than the neighbours' load makes out. One thread tells
    damage more exactly (see `Decoding.lateness`), so threads are for machines with cores to spare.
    """
    cores = os.cpu_count() or 1
    return min(cores, 4) if cores >= 4 else 1


class Decoding:
    """A decoder that runs forward through a file.

    Every packet that it meets after a seek must be the one which the scan saw at that place (time and size): that is
    how it knows where it is, and it never has to trust a seek. A file whose seeks lead astray is decoded from its
    beginning, once.
    """

    def __init__(self, path: Path, scan: Scan, threads: int) -> None:
        self.path, self.scan = path, scan
        self.threads = 1 if scan.counted else threads
        self.pending: deque[tuple[int, Any]] = deque()  # (time in ticks, or the count), frame
        self.seekable = scan.counted is None
        packets = scan.packets
        self.goal: tuple[int, int] | None = None  # packet and time of the frame that is looked for
        self._may_skip = scan.codec == "h264" and scan.counted is None  # HEVC marks layers only, others nothing
        self._keys = {int(packets.pts[k]): int(k) for k in (packets.key & packets.timed).nonzero()[0]}
        self._refreshes = set(packets.pts[packets.refresh & ~packets.key].tolist())
        self._container: Any = None
        self.restart(0)

    def close(self) -> None:
        """Close the file."""
        if self._container is not None:
            self._container.close()
            self._container = None

    def restart(self, entry: int) -> None:
        """Begin at the key packet `entry`, or before it where the file cannot be entered there."""
        if entry > 0 and self.seekable:
            if self._enter(entry):
                return
            self.seekable = False
        self._begin()

    def _begin(self) -> None:
        self.close()
        self._container, self._stream = open_video(self.path)
        if self.threads > 1:
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
        self._unread = unread  # a packet that was read to find out where a seek led
        self.start = self.next = start  # position of the first and of the next packet
        self.ended = False
        self.shown: int | None = None  # time of the last frame taken
        self._count = 0
        self._damage: list[tuple[int, int]] = []  # first and last packet that each damage may have touched

    def _enter(self, entry: int) -> bool:
        """Seek so that decoding begins at `entry` or at a key packet before it; False if that does not work."""
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
            found = self._keys.get(packet.pts) if packet is not None and packet.pts is not None else None
            if found is not None and found <= entry and packets.size[found] == packet.size:
                self._clear(found, packet)
                return True
        return False

    def _next_key(self) -> Any:
        """The next packet that the file marks as key and that does not begin a refresh; None if there is none."""
        return next((p for p in self._packets if p.is_keyframe and p.size and p.pts not in self._refreshes), None)

    def frames(self) -> Iterator[tuple[int, Any]]:
        """Take the frames that are decoded, in the order in which the decoder delivers them."""
        while self.pending:
            self.shown, frame = self.pending.popleft()
            yield self.shown, frame

    def feed(self) -> None:
        """Decode one more packet into `pending`; sets `ended` after the last one."""
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
        try:
            frames = packet.decode()
        except av.FFmpegError:
            self._damaged(position)
            return
        for frame in frames:
            stamp = self._count if self.scan.counted else frame.pts
            self._count += 1
            if frame.is_corrupt:
                self._damaged(position)
            if stamp is not None:
                self.pending.append((stamp, frame))

    def _skip(self, packet: Any, position: int) -> None:
        """Let the decoder leave out the picture if it is not needed.

        That is one stored and shown before the frame looked for from which no other is built. The packet itself is
        asked, because FFmpeg, while it skips, does not report a packet with nothing in it. A packet without a time
        may be the second field of a picture.
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
            except (StopIteration, av.FFmpegError):  # the scan stopped here too
                self.ended = True
                return None
            if not packet.size and (packet.pts is not None or packet.dts is not None):
                packet = None  # an empty packet in the middle (AVI) would end decoding
        return packet

    def _check_place(self, packet: Any) -> None:
        packets, at = self.scan.packets, self.next
        pts = NO_TIME if packet.pts is None else packet.pts
        if at < len(packets) and packets.pts[at] == pts and packets.size[at] == packet.size:
            return
        if not self._sought:
            raise VideoError(f"{str(self.path)!r} changed while it was read.", "Run it again when it is complete.")
        raise AstrayError

    def _damaged(self, position: int) -> None:
        """Note damage met at `position`.

        A decoder often notices late: noise that begins in one packet may only make the next one undecodable, and
        with threads an error is told when up to `threads` more packets have gone in.
        """
        self._damage.append((position - self.lateness, position))

    @property
    def lateness(self) -> int:
        """Packets after a frame's own that must be decoded before the frame can be trusted."""
        return self.threads if self.threads > 1 else 1

    @property
    def damaged_from(self) -> int | None:
        """The first packet since the start that may be damaged, None if there is none."""
        return self._damage[0][0] if self._damage else None

    def clean(self, entry: int, position: int) -> bool:
        """True if no packet from `entry` to `position` may be damaged."""
        return not any(first <= position and last >= entry for first, last in self._damage)


class AstrayError(Exception):
    """After a seek, the packets are not those of the scan."""
