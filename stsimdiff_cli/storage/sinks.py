"""Where the slots of a video go while it is encoded: into memory, or into a tokens file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..records import TokenGrid, VideoTokens
from .atomic import whole_file
from .formats import TOKENS, VideoFileWriter

_LONG_NUMBER = -1.2345678901234567e-100  # no number takes more characters


class Collected:
    """The slots of a video, collected in memory; the same verbs as GrowingTokens."""

    def begin(self, grid: TokenGrid, frames: int, first: Mapping[str, Tensor]) -> None:  # noqa: ARG002
        """Room for all slots of `grid`; `first` are tensors of the first slots."""
        self.held = {
            name: torch.empty((grid.shape[0], *tensor.shape[1:]), dtype=tensor.dtype) for name, tensor in first.items()
        }
        self.slots = 0

    def append(self, tensors: Mapping[str, Tensor]) -> None:
        """The next slots: (t, ...) each."""
        for name, tensor in tensors.items():
            self.held[name][self.slots : self.slots + len(tensor)] = tensor
        self.slots += len(tensors["features"])

    def finish(self, grid: TokenGrid) -> None:
        """Nothing more comes; `grid` says what came, and `tokens` are it."""
        self.tokens = VideoTokens.of(grid, {name: tensor[: self.slots] for name, tensor in self.held.items()})


@contextmanager
def growing_tokens(path: Path) -> Iterator[GrowingTokens]:
    """A tokens file that is written while a video is encoded; whole when the block ends well, else not there."""
    with whole_file(path) as temporary, closing(GrowingTokens(temporary)) as growing:
        yield growing


class GrowingTokens:
    """Takes the slots of a video in order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer: VideoFileWriter | None = None

    def begin(self, grid: TokenGrid, frames: int, first: Mapping[str, Tensor]) -> None:
        """Lay the file out for all slots of `grid`, of so many frames; `first` are tensors of the first slots.

        Frames that cannot be decoded may stay away.
        """
        specs = {name: (tensor.dtype, (grid.shape[0], *tensor.shape[1:])) for name, tensor in first.items()}
        seconds = (_LONG_NUMBER,) * grid.shape[0]
        source = replace(grid.source, missing_seconds=(_LONG_NUMBER,) * frames)
        draft = replace(grid, seconds=seconds, source=source)
        self._writer = VideoFileWriter(self.path, TOKENS, draft, specs, {})

    def append(self, tensors: Mapping[str, Tensor]) -> None:
        """The next slots: (t, ...) each."""
        if self._writer is None:
            raise ValueError("expected begin() before append()")
        for name, tensor in tensors.items():
            self._writer.append(name, tensor)

    def finish(self, grid: TokenGrid) -> None:
        """Nothing more comes; `grid` says what came."""
        if self._writer is None:
            raise ValueError("expected begin() before finish()")
        self._writer.finish(grid)

    def close(self) -> None:
        """Let go of the file, finished or not."""
        if self._writer is not None:
            self._writer.close()
