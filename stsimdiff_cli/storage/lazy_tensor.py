"""Token features that stay in their file: read by rows when asked for, and checked on the way."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import FileFormatError
from ..records import spans
from .tensor_file import BLOCK, TYPES, memory_of, row_bytes

CHUNK = 1 << 27  # bytes of a tensor that a pass reads at once


class FileFeatures:
    """Token features in a safetensors file (records.TokenFeatures): read by rows when asked for.

    The first pass over all rows, in order, compares the checksum; gathering tokens before such a pass causes one.
    FileFormatError if it does not match.
    """

    def __init__(self, path: Path, name: str, checksum: str) -> None:
        self.path, self.name = path, name
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            entry = json.loads(file.read(size))[name]
        self._dtype = TYPES[entry["dtype"]]
        self._shape: tuple[int, ...] = tuple(entry["shape"])
        self._start = 8 + size + entry["data_offsets"][0]
        self._check = _Check(path, name, checksum, math.prod(self.shape) * self.dtype.itemsize)
        self._index: Tensor | None = None  # gathered tokens: rows of the file with its first three sides in one
        self._device = torch.device("cpu")

    def __repr__(self) -> str:
        return f"FileFeatures({self.path.name}: {self.name}, {str(self.dtype).removeprefix('torch.')}{self.shape})"

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, H, W, ...), or (M, ...) of gathered tokens."""
        return self._shape

    @property
    def dtype(self) -> torch.dtype:
        """The type of the numbers."""
        return self._dtype

    @property
    def device(self) -> torch.device:
        """Where chunks are delivered; gathered tokens stay in the file until they are read."""
        return self._device

    @property
    def chunk_rows(self) -> int:
        """Rows of about 128 MB: few enough for memory, and enough for passes that meet their neighbours."""
        return max(1, CHUNK // self._row_bytes)

    def chunks(self, rows: int | None = None, wanted: Tensor | None = None) -> Iterator[tuple[int, Tensor]]:
        """See records.TokenFeatures; all chunks are read into the same memory: new memory costs more than reading."""
        held: Tensor | None = None
        for begin, end in spans(self.shape[0], rows or self.chunk_rows, wanted):
            if held is None or len(held) < end - begin:
                held = torch.empty((end - begin, *self.shape[1:]), dtype=self.dtype)
            chunk = held[: end - begin]
            self._read(begin, chunk)
            yield begin, chunk.to(self.device)

    def gather(self, index: Tensor) -> FileFeatures:
        """The tokens at flat positions `index` (M,), ascending: (M, ...), which stay in the file."""
        self._check.whole(self._pass)
        index = index.cpu()
        if self._index is not None:
            return self._like(_shape=(len(index), *self.shape[1:]), _index=self._index[index])
        return self._like(_shape=(len(index), *self.shape[3:]), _index=index)

    def to(self, device: torch.device | str) -> FileFeatures:
        """The same, delivered to another device."""
        return self._like(_device=torch.device(device))

    def tensor(self) -> Tensor:
        """All of it in memory."""
        out = torch.empty(self.shape, dtype=self.dtype)
        self._read(0, out)
        return out.to(self.device)

    @property
    def _row_bytes(self) -> int:
        return max(1, row_bytes((self.dtype, self.shape)))

    def _like(self, **changes: Any) -> FileFeatures:
        other = object.__new__(FileFeatures)
        other.__dict__ |= {**self.__dict__, **changes}
        return other

    def _pass(self) -> None:
        for _ in self.chunks(max(1, BLOCK // self._row_bytes)):
            pass

    def _read(self, begin: int, out: Tensor) -> None:
        """Fill `out` with rows from `begin` on."""
        if not out.numel():
            return
        data, row = memory_of(out), self._row_bytes
        with self.path.open("rb", buffering=0) as file:
            if self._index is None:
                self._fill(file, data, begin * row)
                self._check.passed(begin * row, data)
                return
            done = 0
            for first, count in _runs(self._index[begin : begin + len(out)]):
                self._fill(file, data[done : done + count * row], first * row)
                done += count * row

    def _fill(self, file: Any, data: memoryview, offset: int) -> None:
        file.seek(self._start + offset)
        while data:
            got = file.readinto(data)
            if not got:
                raise FileFormatError(f"{self.path} is truncated.", "Make it again.")
            data = data[got:]


class _Check:
    """The running checksum of a pass over all bytes of a tensor, shared by all views of it."""

    def __init__(self, path: Path, name: str, expected: str, size: int) -> None:
        self.path, self.name, self.expected, self.size = path, name, expected, size
        self.seen = self.crc = 0

    def passed(self, offset: int, data: memoryview) -> None:
        if offset != self.seen or self.seen == self.size:
            return
        self.seen += len(data)
        self.crc = zlib.crc32(data, self.crc)
        if self.seen == self.size and f"{self.crc:08x}" != self.expected:
            problem = f"{self.path} is damaged: the checksum of {self.name!r} does not match."
            raise FileFormatError(problem, "Make it again with `stsimdiff encode`.")

    def whole(self, run: Callable[[], None]) -> None:
        if self.seen < self.size:
            self.seen = self.crc = 0
            run()


def _runs(index: Tensor) -> list[tuple[int, int]]:
    """Consecutive rows of an ascending index: (first, how many)."""
    if not len(index):
        return []
    breaks = (index.diff() != 1).nonzero().squeeze(1) + 1
    edges = [0, *breaks.tolist(), len(index)]
    return [(int(index[begin]), end - begin) for begin, end in pairwise(edges)]
