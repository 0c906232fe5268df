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

    One thread locates damage more exactly than several. Where several find a frame missing, its group of pictures is
    therefore decoded again with one, so that frames do not depend on the number of threads.
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
        self._finder = Finder(scan, Decoding(path, scan, threads or decode_threads()))
        self._careful: Finder | None = None  # decodes with one thread where several have found a frame missing
        self._group: tuple[int, list[int]] = (-1, [])  # a key packet, and the frames read that are decoded from it
        self._doubted = False  # whether this group is read with care
        self._cancelled = False
        self._rgb = VideoReformatter()
        self._scaling = _scaling(scaling)

    @property
    def lost(self) -> bool:
        """True once seeks in the file have gone wrong, so that it is decoded from its beginning."""
        finders = [finder for finder in (self._finder, self._careful) if finder]
        return self._scan.counted is None and not all(finder.decoding.seekable for finder in finders)

    def cancel(self) -> None:
        """Let a read in progress, in another thread, end soon with StoppedError."""
        self._cancelled = True
        for finder in (self._finder, self._careful):
            if finder:
                finder.decoding.cancelled = True

    def close(self) -> None:
        """Close the file."""
        for finder in (self._finder, self._careful):
            if finder:
                finder.close()

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
        if entry != self._group[0]:
            self._group, self._doubted = (entry, []), False
        if self._doubted and self._careful:
            return self._careful.frame(index, wanted)
        frame = self._finder.frame(index, wanted)
        if frame is None and self._finder.decoding.threads > 1:
            self._doubted = True
            return self._with_care(index, wanted)
        self._group[1].append(index)
        return frame

    def _with_care(self, index: int, wanted: set[int]) -> Any:
        """The frame decoded with one thread, after the frames of its group before it: None if it is missing."""
        if self._careful is None:
            self._careful = Finder(self._scan, Decoding(self._path, self._scan, 1))
            self._careful.decoding.cancelled = self._cancelled
        self._careful.forget()
        for before in self._group[1]:
            self._careful.frame(before, wanted)
        return self._careful.frame(index, wanted)


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
