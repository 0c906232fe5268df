"""The default reader: PyAV, with every frame identified by its time in the packet scan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from av.video.reformatter import Colorspace, VideoReformatter
from torch import Tensor

from .decoding import AstrayError, Decoding, decode_threads
from .packets import UNSPECIFIED
from .scanning import HD_LINES, Scan

PATIENCE = 64  # packets after its own within which a frame must be delivered; H.264 and HEVC hold back at most 16


class PyavReader:
    """Reads frames in increasing order, and decodes each group of pictures once.

    A frame is decoded from the last key frame at or before it. It counts only if the decoder delivers exactly its time
    and no packet on the way was damaged; else it is missing. Damage spreads: pictures after a damaged one are predicted
    from it until the next key frame, so all of them are missing. (A flipped bit that leaves a packet valid goes
    unnoticed: video has no checksums.)
    """

    name = "pyav"

    @classmethod
    def refusal(cls, scan: Scan) -> str | None:  # noqa: ARG003
        """None: this reader is right on every file."""
        return None

    @classmethod
    def require(cls) -> None:
        """Nothing to do: PyAV is always installed."""

    def __init__(self, path: Path, scan: Scan) -> None:
        self._scan = scan
        self._decoding = Decoding(path, scan, decode_threads())
        self._kept: dict[int, Any] = {}  # frames of this chunk that were decoded before their turn
        self._rgb = VideoReformatter()

    def close(self) -> None:
        """Close the file."""
        self._kept.clear()
        self._decoding.close()

    def read(self, indices: Sequence[int], pixels: Tensor) -> list[bool]:
        """Write frame `indices[k]` to pixels[k] (height, width, 3) uint8; False where it is missing."""
        width, height = self._scan.stored_size
        there = []
        for out, frame in zip(pixels.numpy(), self._frames(indices), strict=True):
            there.append(frame is not None)
            if frame is not None:
                out[...] = self._scan.orientation.apply(to_rgb(frame, width, height, self._rgb))
        return there

    def intact(self, indices: Sequence[int]) -> list[bool]:
        """False where `read` would find a frame missing. For readers that paint over damage without a word."""
        return [frame is not None for frame in self._frames(indices)]

    def _frames(self, indices: Sequence[int]) -> Iterator[Any]:
        self._kept.clear()
        wanted = {self._stamp(i) for i in indices}
        return (self._frame(index, wanted) for index in indices)

    def _stamp(self, index: int) -> int:
        """What identifies the frame in the decoder: its time in ticks, or its number if frames are counted."""
        return index if self._scan.counted else int(self._scan.packets.pts[self._scan.position[index]])

    def _frame(self, index: int, wanted: set[int]) -> Any:
        """The decoded frame, or None if it is missing."""
        try:
            return self._find(index, wanted)
        except AstrayError:
            self._kept.clear()
            self._decoding.seekable = False
            self._decoding.restart(0)
            return self._find(index, wanted)

    def _find(self, index: int, wanted: set[int]) -> Any:
        decoding, stamp = self._decoding, self._stamp(index)
        entry, position = int(self._scan.entry[index]), int(self._scan.position[index])
        if stamp not in self._kept:
            self._go_to(entry, stamp)
        frame = self._advance(stamp, entry, position, wanted)
        if frame is None and decoding.clean(entry, position) and decoding.seekable and 0 < entry <= decoding.start:
            # Some streams refresh the picture gradually, and decoding must start more than one key frame earlier.
            self._kept.clear()
            decoding.restart(int(self._scan.packets.last_key[entry - 1]))
            entry = decoding.start
            frame = self._advance(stamp, entry, position, wanted)
        return frame if frame is not None and decoding.clean(entry, position) else None

    def _go_to(self, entry: int, stamp: int) -> None:
        """Continue if the frame is ahead in this group of pictures; else restart at its key frame."""
        decoding = self._decoding
        passed = decoding.shown is not None and decoding.shown >= stamp
        ahead = entry > decoding.next
        recovered = decoding.damaged_from is not None and entry > decoding.start
        if passed or (decoding.seekable and (ahead or recovered)):
            self._kept.clear()
            decoding.restart(entry)

    def _advance(self, stamp: int, entry: int, position: int, wanted: set[int]) -> Any:
        """Decode until the frame `stamp` is out and can be trusted, or until it is overdue (None)."""
        decoding = self._decoding
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
            enough = decoding.next > position + (PATIENCE if frame is None else decoding.lateness)
            if decoding.ended or enough or not decoding.clean(entry, position):
                return frame
            decoding.feed()


def to_rgb(frame: Any, width: int, height: int, reformatter: VideoReformatter) -> np.ndarray:
    """A decoded frame as (height, width, 3) uint8 RGB.

    The matrix (BT.709, BT.601, BT.2020) and the range are those of the frame. A frame that does not state them is taken
    to be in limited range, and in BT.709 if it has 720 lines or more, else in BT.601, as in players. The destination's
    matrix has no meaning for RGB, but PyAV before 17 ignores the source's matrix unless the two differ. A frame that
    differs in size from the first (a stream may change it) is scaled to the first one's size. HDR brightness stays as
    stored.
    """
    matrix = int(frame.colorspace)
    if matrix == UNSPECIFIED and frame.height >= HD_LINES:
        matrix = int(Colorspace.ITU709)
    rgb = reformatter.reformat(
        frame,
        width=width,
        height=height,
        format="rgb24",
        src_colorspace=matrix,
        dst_colorspace=Colorspace.ITU601,
        src_color_range=int(frame.color_range),
    )
    return rgb.to_ndarray()
