"""Finds chosen frames while a decoder runs forward through a video."""

from __future__ import annotations

from typing import Any

from .decoding import AstrayError, Decoding
from .scanning import Scan

PATIENCE = 64  # packets after its own within which a frame must be delivered; H.264 and HEVC hold back at most 16


class Finder:
    """Finds frames in increasing order, and decodes each group of pictures once."""

    def __init__(self, scan: Scan, decoding: Decoding) -> None:
        self._scan, self.decoding = scan, decoding
        self._kept: dict[int, Any] = {}  # wanted frames that were decoded before their turn

    def forget(self) -> None:
        """Release the frames that were decoded before their turn."""
        self._kept.clear()

    def close(self) -> None:
        """Close the file."""
        self._kept.clear()
        self.decoding.close()

    def stamp(self, index: int) -> int:
        """What identifies the frame in the decoder: its time in ticks, or its number if frames are counted."""
        return index if self._scan.counted else int(self._scan.packets.pts[self._scan.position[index]])

    def frame(self, index: int, wanted: set[int]) -> Any:
        """The decoded frame, or None if it is missing. `wanted` holds the stamps of frames that are asked for soon."""
        try:
            return self._find(index, wanted)
        except AstrayError:
            self._kept.clear()
            self.decoding.seekable = False
            self.decoding.restart(0)
            return self._find(index, wanted)

    def _find(self, index: int, wanted: set[int]) -> Any:
        decoding, stamp = self.decoding, self.stamp(index)
        entry, position = int(self._scan.entry[index]), int(self._scan.position[index])
        if stamp not in self._kept:
            self._go_to(entry, stamp)
        frame = self._advance(stamp, entry, position, wanted)
        if frame is None and decoding.clean(entry, position) and decoding.seekable and 0 < entry <= decoding.start:
            # Some streams refresh the picture gradually, and decoding must start more than one key frame earlier.
            self._restart(int(self._scan.packets.last_key[entry - 1]))
            entry = decoding.start
            frame = self._advance(stamp, entry, position, wanted)
        return frame if frame is not None and decoding.clean(entry, position) else None

    def _go_to(self, entry: int, stamp: int) -> None:
        """Continue if the frame is ahead in this group of pictures; else restart at its key frame."""
        decoding = self.decoding
        passed = decoding.shown is not None and decoding.shown >= stamp
        ahead = entry > decoding.next
        recovered = decoding.damaged_from is not None and entry > decoding.start
        if passed or (decoding.seekable and (ahead or recovered)):
            self._restart(entry)

    def _restart(self, entry: int) -> None:
        self._kept.clear()
        self.decoding.restart(entry)

    def _advance(self, stamp: int, entry: int, position: int, wanted: set[int]) -> Any:
        """Decode until the frame `stamp` is out and can be trusted, or until it is overdue (None)."""
        decoding = self.decoding
        decoding.goal = position, stamp
        frame = self._kept.pop(stamp, None)
        while True:
            if frame is None:
                for time, picture in decoding.frames():
                    if time == stamp:
                        frame = picture
                        break
                    if time in wanted and time > stamp:
                        self._kept[time] = picture
            waiting = frame is None or decoding.holds(position)
            enough = decoding.next > position + (PATIENCE if waiting else decoding.lateness)
            if decoding.ended or enough or not decoding.clean(entry, position):
                return frame
            decoding.feed()
