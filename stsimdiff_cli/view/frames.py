"""Finds the video that tokens came from, and reads the frames of slots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import video
from ..errors import RequestError
from ..records import Source, TokenGrid
from ..video.source import checksum_of


@dataclass(frozen=True)
class Found:
    """Where the video is; without a path, why not."""

    path: Path | None
    note: str | None = None


def find_video(source: Source, given: Path | None, beside: Path) -> Found:
    """The video with the recorded name and checksum, next to the compressed file `beside` or in the working directory.

    Or the one `given`: RequestError if it is not there, or not the one that the tokens came from.
    """
    if given is not None:
        if not given.is_file():
            raise RequestError(f"There is no video {given}.", "Check the name, or leave out --video.")
        if not _same(given, source):
            raise RequestError(
                f"{given} is not the video that the tokens came from: its checksum is another.",
                f"Give the {source.name} of {source.bytes} bytes that was encoded.",
            )
        return Found(given)
    places = list(dict.fromkeys((beside.parent / source.name, Path(source.name))))
    others = []
    for path in places:
        if path.is_file():
            if _same(path, source):
                return Found(path)
            others.append(path)
    if others:
        return Found(None, f"{others[0]} is another video (its checksum differs); the grid is drawn alone.")
    return Found(
        None,
        f"{source.name} was not found next to {beside.name} or in the working directory; the grid is drawn alone. "
        "Name the video with --video.",
    )


def _same(path: Path, source: Source) -> bool:
    return path.stat().st_size == source.bytes and checksum_of(path) == source.sha256


def read_slots(
    path: Path, grid: TokenGrid, slots: Sequence[int], longest: int
) -> Iterator[tuple[int, np.ndarray | None]]:
    """Each of the slots (increasing) with its frame (height, width, 3) uint8, None where it cannot be decoded.

    A slot of several frames is shown by the one nearest to the slot's time. Frames are made smaller, the longer side
    at most `longest` pixels; none is made larger.
    """
    found = video.scan(path)
    nearest = [int(np.abs(found.seconds - grid.seconds[slot]).argmin()) for slot in slots]
    wanted = sorted(set(nearest))
    reader = _pictures(path, found, wanted, longest)
    held: tuple[int, np.ndarray | None] = (-1, None)
    for slot, index in zip(slots, nearest, strict=True):
        while held[0] != index:
            held = next(reader)
        yield slot, held[1]


def _pictures(
    path: Path, found: video.Scan, indices: Sequence[int], longest: int
) -> Iterator[tuple[int, np.ndarray | None]]:
    """Each frame index with its picture."""
    for part, frames in zip(indices, video.read_frames(path, found, indices, chunk=1), strict=True):
        yield part, None if not frames.seconds else shrunk(frames.pixels[0].numpy(), longest)


def shrunk(picture: np.ndarray, longest: int) -> np.ndarray:
    """The picture (height, width, 3) with its longer side at most `longest` pixels, each a mean of what it covers."""
    import torch
    from torch.nn import functional as F

    height, width = picture.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return picture
    size = max(1, round(height * scale)), max(1, round(width * scale))
    x = torch.from_numpy(picture).permute(2, 0, 1)[None]
    small = F.interpolate(x, size=size, mode="bilinear", antialias=True)[0]
    made: np.ndarray = small.permute(1, 2, 0).contiguous().numpy()
    return made
