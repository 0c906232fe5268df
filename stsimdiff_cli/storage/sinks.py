"""Where the slots of a video go while it is encoded: into memory, or into a tokens file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ..records import ArchiveMark, TokenGrid, VideoTokens
from .atomic import whole_file
from .form import Form
from .formats import TOKENS
from .stored_video import StoredVideo
from .writing import VideoFileWriter, archive_entry

_LONGEST_NUMBER = -1.2345678901234567e-100  # JSON needs no more characters for any other float


class TokenSink(Protocol):
    """Receives the slots of a video in time order: `begin`, then `append` for each part, then `finish`."""

    def begin(self, grid: TokenGrid, frames: int, first: Mapping[str, Tensor]) -> None:
        """Make room for all slots of `grid`, encoded from `frames` frames.

        `first` holds the tensors (t, ...) of the first slots under the names of a tokens file; it is not stored yet.
        """

    def append(self, tensors: Mapping[str, Tensor]) -> None:
        """Store the next slots: (t, ...) each."""

    def finish(self, grid: TokenGrid) -> None:
        """End the video. `grid` describes the slots that arrived, perhaps fewer than at the beginning."""

    def tokens(self) -> VideoTokens:
        """The tokens of the finished video; of a file, after `open_sink` has ended."""


@dataclass(frozen=True)
class Destination:
    """A tokens file to write."""

    path: Path
    store: str | None = None  # form of its features: one of packing.STORES; None: as they are computed
    mark: ArchiveMark | None = None  # the item that it is of an archive


@contextmanager
def open_sink(to: Path | Destination | None = None) -> Iterator[TokenSink]:
    """A sink in memory, or one that writes a tokens file, which appears only if the block succeeds."""
    if to is None:
        yield MemorySink()
        return
    file = Destination(to) if isinstance(to, Path) else to
    with whole_file(file.path) as temporary, closing(FileSink(temporary, file)) as sink:
        yield sink


class MemorySink:
    """Collects the slots of a video in memory; see TokenSink."""

    def __init__(self) -> None:
        self._tensors: dict[str, Tensor] = {}
        self._slots = 0
        self._grid: TokenGrid | None = None

    def begin(self, grid: TokenGrid, frames: int, first: Mapping[str, Tensor]) -> None:  # noqa: ARG002
        """Allocate memory for all slots of `grid`."""
        slots = grid.shape[0]
        self._tensors = {name: torch.empty((slots, *x.shape[1:]), dtype=x.dtype) for name, x in first.items()}

    def append(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy the next slots: (t, ...) each."""
        for name, tensor in tensors.items():
            self._tensors[name][self._slots : self._slots + len(tensor)] = tensor
        self._slots += len(tensors["features"])

    def finish(self, grid: TokenGrid) -> None:
        """End the video."""
        self._grid = grid

    def tokens(self) -> VideoTokens:
        """The tokens, in memory."""
        if self._grid is None:
            raise ValueError("expected finish() before tokens()")
        return VideoTokens.of(self._grid, {name: tensor[: self._slots] for name, tensor in self._tensors.items()})


class FileSink:
    """Writes the slots of a video to a tokens file; see TokenSink. `temporary` is its path until it is complete."""

    def __init__(self, temporary: Path, file: Destination) -> None:
        self._temporary, self._file = temporary, file
        self._writer: VideoFileWriter | None = None

    def begin(self, grid: TokenGrid, frames: int, first: Mapping[str, Tensor]) -> None:
        """Lay the file out for all slots of `grid`, with room for a header that names every frame as missing."""
        specs = {name: (tensor.dtype, (grid.shape[0], *tensor.shape[1:])) for name, tensor in first.items()}
        source = replace(grid.source, missing_seconds=(_LONGEST_NUMBER,) * frames)
        draft = replace(grid, seconds=(_LONGEST_NUMBER,) * grid.shape[0], source=source)
        form = Form(self._file.store, specs)
        self._writer = VideoFileWriter(self._temporary, TOKENS, draft, form, archive_entry(self._file.mark))

    def append(self, tensors: Mapping[str, Tensor]) -> None:
        """Write the next slots: (t, ...) each."""
        if self._writer is None:
            raise ValueError("expected begin() before append()")
        for name, tensor in tensors.items():
            self._writer.append(name, tensor)

    def finish(self, grid: TokenGrid) -> None:
        """Write the header."""
        if self._writer is None:
            raise ValueError("expected begin() before finish()")
        self._writer.finish(grid)

    def tokens(self) -> VideoTokens:
        """The tokens, which stay in the file."""
        return StoredVideo(self._file.path).tokens(in_memory=False)

    def close(self) -> None:
        """Close the file, finished or not."""
        if self._writer is not None:
            self._writer.close()
