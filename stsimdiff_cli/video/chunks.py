"""Delivers the chosen frames of a video in chunks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ..errors import VideoError
from ..records import Frames
from ..timing.spans import span
from .decoding import StoppedError
from .ffmpeg_log import silenced
from .scanning import Scan


class NoFrameError(VideoError):
    """Of the frames that were chosen, none can be decoded."""


class FrameChunks(Iterator[Frames]):
    """The chosen frames of a video in chunks: see `read_frames`. `cancel` and `close` may be called from any thread."""

    def __init__(self, path: Path, scan: Scan, chosen: list[int], chunk: int, source: Source) -> None:
        self._path, self._scan, self._chosen, self._size, self._source = path, scan, chosen, chunk, source
        self._next = self._delivered = 0
        self._ended = False

    def __next__(self) -> Frames:
        if self._ended:
            raise StopIteration
        first = self._next * self._size
        try:
            if first >= len(self._chosen):
                self._finish()
                raise StopIteration
            pixels, there = self._source.chunk(self._next)
        except BaseException as error:
            self.close()
            if isinstance(error, StoppedError):
                raise StopIteration from None
            raise
        self._next += 1
        self._delivered += sum(there)
        times = [float(self._scan.seconds[i]) for i in self._chosen[first : first + self._size]]
        return Frames(
            pixels=pixels if all(there) else pixels[torch.tensor(there)],
            seconds=tuple(t for t, ok in zip(times, there, strict=True) if ok),
            missing_seconds=tuple(t for t, ok in zip(times, there, strict=True) if not ok),
        )

    def _finish(self) -> None:
        if self._chosen and not self._delivered:
            raise NoFrameError(
                f"None of the {len(self._chosen)} chosen frames of {str(self._path)!r} can be decoded.",
                "The file is damaged: get it again, or choose other frames.",
            )

    def cancel(self) -> None:
        """End soon: a call of `next` that waits in another thread raises StopIteration."""
        self._ended = True
        self._source.cancel()

    def close(self) -> None:
        """End, and close the file. No thread is left."""
        self._ended = True
        self._source.close()

    def __del__(self) -> None:
        self.cancel()


class Source(Protocol):
    """Where chunks come from. `chunk` is called for each, in order."""

    def chunk(self, number: int) -> tuple[Tensor, list[bool]]:
        """The pixels of a chunk (n, height, width, 3), and for each frame whether it is there."""

    def cancel(self) -> None:
        """Let a call of `chunk` in another thread end soon, with StoppedError."""

    def close(self) -> None:
        """Stop, and close the file."""


class ChunkReader(Protocol):
    """What `OneReader` needs of a video reader; see `Reader` in reading.py."""

    def read(self, indices: Sequence[int], pixels: Tensor) -> list[bool]:
        """Write frames to pixels; False for each that is missing."""

    def cancel(self) -> None:
        """Let a read in progress, in another thread, end soon with StoppedError."""

    def close(self) -> None:
        """Close the file."""


class OneReader:
    """Chunks that one reader reads, in the consumer's thread and when they are asked for."""

    def __init__(
        self, open_reader: Callable[[], ChunkReader], chosen: Sequence[int], chunk: int, shape: tuple[int, int]
    ) -> None:
        self._open, self._chosen, self._size, self._shape = open_reader, chosen, chunk, shape
        self._reader: ChunkReader | None = None
        self._stopped = False
        self._reading = threading.RLock()

    def chunk(self, number: int) -> tuple[Tensor, list[bool]]:
        """As `Source`."""
        with self._reading:
            if self._reader is None and not self._stopped:
                self._reader = self._open()
            if self._reader is None or self._stopped:
                raise StoppedError
            indices = self._chosen[number * self._size : (number + 1) * self._size]
            pixels = torch.empty((len(indices), *self._shape, 3), dtype=torch.uint8)
            with silenced(), span("decode", chunk=number, frames=len(indices)):
                return pixels, self._reader.read(indices, pixels)

    def cancel(self) -> None:
        """As `Source`."""
        self._stopped = True
        if self._reader is not None:
            self._reader.cancel()

    def close(self) -> None:
        """As `Source`."""
        self.cancel()
        with self._reading:
            if self._reader is not None:
                self._reader.close()
                self._reader = None
