"""Finds the video that tokens came from, and reads the frames of its slots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import video
from ..errors import RequestError
from ..records import Source, TokenGrid
from ..registry import printable
from ..storage.image_files import is_images, state_of
from ..video.source import checksum_of


@dataclass(frozen=True)
class SourceVideo:
    """The video that tokens came from: where it is, or a note why it is not shown."""

    path: Path | None
    note: str | None = None


def find_video(source: Source, given: Path | None, next_to: Path) -> SourceVideo:
    """The video with the recorded name and checksum: `given`, or next to a file, or in the working directory.

    Raises RequestError if the one given does not exist, or is not the one that the tokens came from.
    """
    if given is not None:
        if not _exists(given):
            raise RequestError(f"There is no video {given}.", "Check the name, or leave out --video.")
        if not _same(given, source):
            raise RequestError(
                f"{given} is not the video that the tokens came from: its checksum differs.",
                f"Give the {printable(source.name)} of {source.bytes} bytes that was encoded.",
            )
        return SourceVideo(given)
    others = []
    for path in dict.fromkeys((next_to.parent / source.name, Path(source.name))):
        if Path(source.name).name == source.name and _exists(path):  # a name alone, in the words of this system
            if _same(path, source):
                return SourceVideo(path)
            others.append(path)
    if others:
        return SourceVideo(
            None, f"{printable(str(others[0]))} is another video (its checksum differs); the grid is drawn alone."
        )
    return SourceVideo(
        None,
        f"{printable(source.name)} was not found next to {next_to.name} or in the working directory; the grid is "
        "drawn alone. Name the video with --video.",
    )


def _exists(path: Path) -> bool:
    """Whether there is such a file. A name from elsewhere may be too long here, or have no bytes in this encoding."""
    try:
        return path.is_file() or is_images(path)
    except (OSError, ValueError):
        return False


def _same(path: Path, source: Source) -> bool:
    return state_of(path)[0] == source.bytes and checksum_of(path) == source.sha256


def scan_again(path: Path, source: Source) -> video.Scan:
    """The scan of the video that tokens came from; images are shown as fast as they were then."""
    return video.scan(path, source.fps if is_images(path) else None)


def read_slots(
    path: Path, grid: TokenGrid, slots: Sequence[int], longest: int
) -> Iterator[tuple[int, np.ndarray | None]]:
    """Yield each slot (in increasing order) with its frame (height, width, 3) uint8, None if it cannot be decoded.

    A slot of several frames is shown by the frame nearest to the slot's time. Frames are reduced until the longer side
    has at most `longest` pixels; none is enlarged.
    """
    scan = scan_again(path, grid.source)
    nearest = [int(np.abs(scan.seconds - grid.seconds[slot]).argmin()) for slot in slots]
    pictures = _pictures(path, scan, sorted(set(nearest)), longest)
    last, picture = -1, None
    for slot, index in zip(slots, nearest, strict=True):
        while last != index:  # slots may share a frame
            last, picture = next(pictures)
        yield slot, picture


def _pictures(
    path: Path, scan: video.Scan, indices: Sequence[int], longest: int
) -> Iterator[tuple[int, np.ndarray | None]]:
    """Each frame index with its picture, None if it cannot be decoded."""
    for index, frames in zip(indices, video.read_frames(path, scan, indices, chunk=1, workers=None), strict=True):
        yield index, None if not frames.seconds else shrunk(frames.pixels[0].numpy(), longest)


def shrunk(picture: np.ndarray, longest: int) -> np.ndarray:
    """The picture (height, width, 3) reduced, by averaging, until its longer side has at most `longest` pixels."""
    import torch
    from torch.nn import functional as F

    height, width = picture.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return picture
    size = max(1, round(height * scale)), max(1, round(width * scale))
    x = torch.from_numpy(picture).permute(2, 0, 1)[None]
    small = F.interpolate(x, size=size, mode="bilinear", antialias=True)[0]
    reduced: np.ndarray = small.permute(1, 2, 0).contiguous().numpy()
    return reduced
