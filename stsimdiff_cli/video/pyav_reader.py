"""The default reader: PyAV, with every frame identified by its time in the packet scan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from av import VideoFrame
from av.video.reformatter import Colorspace, VideoReformatter
from torch import Tensor

from .decoding import Decoding, decode_threads
from .finding import Finder
from .packets import UNSPECIFIED
from .scanning import HD_LINES, Scan


class PyavReader:
    """Reads frames in increasing order, and decodes each group of pictures once.

    A frame is decoded from the last key frame at or before it. It counts only if the decoder delivers exactly its time
    and no packet on the way was damaged; else it is missing. Damage spreads: pictures after a damaged one are predicted
    from it until the next key frame, so all of them are missing. (A flipped bit that leaves a packet valid goes
    unnoticed: video has no checksums.)

    What is found does not depend on what was read before, nor on the number of threads. Where a frame is missing, its
    group of pictures is decoded again by a decoder that is new, because damage changes decoders for good (how many
    pictures they hold back), and with one thread, because it locates damage more exactly.
    """

    name = "pyav"

    @classmethod
    def refusal(cls, scan: Scan) -> str | None:  # noqa: ARG003
        """None: this reader is right on every file."""
        return None

    @classmethod
    def require(cls) -> None:
        """Nothing to do: PyAV is always installed."""

    def __init__(self, path: Path, scan: Scan, threads: int | None = None, scaling: int | None = None) -> None:
        """`threads` decode and `scaling` make RGB of frames; by default as many as suit the machine."""
        self._path, self._scan = path, scan
        self._threads = threads or decode_threads()
        self._finders: list[Finder] = []  # those that are open
        self._cancelled = False
        self._finder = self._new(self._threads)
        self._careful: Finder | None = None  # reads a group of pictures again in which a frame is missing
        self._entry = -1  # the key packet of the group that is read
        self._before: list[int] = []  # frames of this group that were read
        self._rgb = VideoReformatter()
        self._scaling = _scaling(scaling)

    def _new(self, threads: int) -> Finder:
        finder = Finder(self._scan, Decoding(self._path, self._scan, threads))
        self._finders.append(finder)
        if self._cancelled:
            finder.decoding.cancelled = True
        return finder

    @property
    def lost(self) -> bool:
        """True once seeks in the file have gone wrong, so that it is decoded from its beginning."""
        return self._scan.counted is None and not all(finder.decoding.seekable for finder in self._finders)

    def cancel(self) -> None:
        """Let a read in progress, in another thread, end soon with StoppedError."""
        self._cancelled = True
        for finder in list(self._finders):
            finder.decoding.cancelled = True

    def close(self) -> None:
        """Close the file."""
        while self._finders:
            self._finders.pop().close()

    def read(self, indices: Sequence[int], pixels: Tensor) -> list[bool]:
        """Write frame `indices[k]` to pixels[k] (height, width, 3) uint8; False where it is missing."""
        width, height = self._scan.stored_size
        there = []
        for out, frame in zip(pixels.numpy(), self._frames(indices), strict=True):
            there.append(frame is not None)
            if frame is not None:
                rgb = to_rgb(frame, width, height, self._rgb, **self._scaling)
                out[...] = self._scan.orientation.apply(rgb)
        return there

    def intact(self, indices: Sequence[int]) -> list[bool]:
        """False where `read` would find a frame missing. For readers that paint over damage without a word."""
        return [frame is not None for frame in self._frames(indices)]

    def _frames(self, indices: Sequence[int]) -> Iterator[Any]:
        self._finder.forget()
        wanted = {self._finder.stamp(i) for i in indices}
        return (self._frame(index, wanted) for index in indices)

    def _frame(self, index: int, wanted: set[int]) -> Any:
        """The decoded frame, or None if it is missing."""
        entry = int(self._scan.entry[index])
        if entry != self._entry:
            self._entry, self._before = entry, []
            self._renew()
        if self._careful:
            return self._careful.frame(index, wanted)
        frame = self._finder.frame(index, wanted)
        self._before.append(index)
        if frame is None and not self.lost and not self._scan.counted:
            return self._again(wanted)
        if self.lost and self._finder.decoding.threads > 1:
            self._replace(1, seekable=False)
            return self._finder.frame(index, wanted)
        return frame

    def _again(self, wanted: set[int]) -> Any:
        """The last frame read by a new decoder, after those of its group before it; None if it is missing."""
        self._careful = self._new(1)
        frame = None
        for index in self._before:
            frame = self._careful.frame(index, wanted)
        return frame

    def _renew(self) -> None:
        """After a group with a missing frame, go on with a new decoder."""
        if self._careful:
            self._replace(self._threads, seekable=not self.lost)

    def _replace(self, threads: int, seekable: bool) -> None:
        self.close()
        self._careful = None
        self._threads = threads
        self._finder = self._new(threads)
        self._finder.decoding.seekable &= seekable


def _scaling(threads: int | None) -> dict[str, int]:
    """The argument that lets PyAV scale with so many threads; newer versions take one for each core without it."""
    if threads is None:
        return {}
    try:
        VideoReformatter().reformat(VideoFrame(16, 16, "yuv420p"), format="rgb24", threads=threads)
    except TypeError:
        return {}
    return {"threads": threads}


def to_rgb(frame: Any, width: int, height: int, reformatter: VideoReformatter, **scaling: int) -> np.ndarray:
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
        **scaling,
    )
    return rgb.to_ndarray()
