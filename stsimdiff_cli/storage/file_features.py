"""Token features that stay in their file: rows are read when asked for, and checked while they are read.

Why not safetensors' `get_slice`: the library maps the whole file into private memory, and Linux refuses that for a file
larger than memory and swap together (a file of 42 GB on a machine with 24 GB: "Cannot allocate memory"; the first rows
are read here). On a tensors file of 1 GB, two cores, safetensors 0.8:

                                               here             get_slice
    a pass by chunks of 128 MB with checksum   1.9 to 2.8 s     1.4 to 1.6 s, the file opened anew for each chunk
    resident memory of that pass               133 MB           136 MB; 960 MB if the file is opened once
    gather 10 % of the tokens, scattered       0.9 s, 107 MB    2.0 s token by token, 1.0 s slot by slot, 1060 MB
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import FileFormatError
from ..token_features import DenseFeatures, TokenFeatures, describe, spans
from .directory import Entry
from .finite import all_finite
from .formats import REMAKE
from .stores import AnyPath
from .tensor_file import BLOCK, TYPES, memory_of, row_bytes

CHUNK = 1 << 27  # bytes of a tensor that a pass reads at a time


class StoredFeatures(TokenFeatures, Protocol):
    """Token features on disk, of which some rows can be had without reading the others."""

    def part(self, begin: int, end: int) -> StoredFeatures:
        """The rows from `begin` to `end`. Nothing else is read, so there is no checksum to compare."""

    def gather(self, index: Tensor) -> StoredFeatures:
        """See TokenFeatures."""

    def check(self) -> None:
        """Compare the checksum, unless a pass has done so."""

    def read(self, begin: int, out: Tensor) -> None:
        """Fill `out` with the rows from `begin` on."""


class FileFeatures:
    """Token features in a safetensors file; implements token_features.TokenFeatures.

    The first pass over all rows in order compares the checksum, and refuses numbers that are not finite. Gathering
    tokens, or leaving out rows, before such a pass makes one. Raises FileFormatError for another checksum, for NaN and
    infinity, and for a file that has been truncated.
    """

    def __init__(self, path: AnyPath, name: str, entry: Entry, checksum: str) -> None:
        self.path, self.name = path, name
        self._dtype = TYPES[entry.dtype]
        self._shape = entry.shape
        self._start = entry.begin
        self._checksum: _RunningChecksum | _FiniteOnly = _RunningChecksum(
            path, name, checksum, math.prod(self.shape) * self.dtype.itemsize
        )
        self._index: Tensor | None = None  # of gathered tokens: flat positions in the file
        self._device = torch.device("cpu")

    def __repr__(self) -> str:
        return f"FileFeatures({self.path.name}: {self.name}, {describe(self)})"

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, H, W, ...), or (M, ...) for gathered tokens."""
        return self._shape

    @property
    def dtype(self) -> torch.dtype:
        """The type of the numbers."""
        return self._dtype

    @property
    def device(self) -> torch.device:
        """The device on which `chunks` and `tensor` deliver."""
        return self._device

    @property
    def chunk_rows(self) -> int:
        """Rows of about 128 MB: a small part of memory, and long runs for passes that compare neighbouring slots."""
        return max(1, CHUNK // self._row_bytes)

    def chunks(self, rows: int | None = None, wanted: Tensor | None = None) -> Iterator[tuple[int, Tensor]]:
        """See TokenFeatures. All chunks are read into one buffer, because allocating takes longer than reading."""
        if wanted is not None:
            self.check()
        buffer: Tensor | None = None
        for begin, end in spans(self.shape[0], rows or self.chunk_rows, wanted):
            if buffer is None or len(buffer) < end - begin:
                buffer = torch.empty((end - begin, *self.shape[1:]), dtype=self.dtype)
            chunk = buffer[: end - begin]
            self.read(begin, chunk)
            yield begin, chunk.to(self.device)

    def part(self, begin: int, end: int) -> FileFeatures:
        """The rows from `begin` to `end`. Nothing else is read, so there is no checksum to compare."""
        shape = (end - begin, *self.shape[1:])
        start = self._start + begin * self._row_bytes
        return self._like(_shape=shape, _start=start, _checksum=_FiniteOnly(self.path, self.name))

    def gather(self, index: Tensor) -> FileFeatures:
        """The tokens at flat positions `index` (M,), ascending: (M, ...). They stay in the file."""
        self.check()
        index = index.cpu()
        if self._index is not None:
            return self._like(_shape=(len(index), *self.shape[1:]), _index=self._index[index])
        return self._like(_shape=(len(index), *self.shape[3:]), _index=index)

    def to(self, device: torch.device | str) -> FileFeatures:
        """The same features, delivered on another device."""
        return self._like(_device=torch.device(device))

    def in_memory(self) -> DenseFeatures:
        """The same features in memory."""
        return DenseFeatures(self.tensor(), 3 if self._index is None else 1)

    def tensor(self) -> Tensor:
        """All features as one tensor in memory."""
        out = torch.empty(self.shape, dtype=self.dtype)
        self.read(0, out)
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

    def check(self) -> None:
        """See StoredFeatures."""
        self._checksum.ensure(self._pass)

    def read(self, begin: int, out: Tensor) -> None:
        """See StoredFeatures."""
        if not out.numel():
            return
        data, row = memory_of(out), self._row_bytes
        with self.path.open("rb", buffering=0) as file:
            if self._index is None:
                self._fill(file, data, begin * row)
                self._checksum.update(begin * row, data, out)
                return
            done = 0
            for first, count in _runs(self._index[begin : begin + len(out)]):
                self._fill(file, data[done : done + count * row], first * row)
                done += count * row

    def _fill(self, file: Any, data: memoryview, offset: int) -> None:
        file.seek(self._start + offset)
        while data:
            count = file.readinto(data)
            if not count:
                raise FileFormatError(f"{self.path} is truncated.", REMAKE)
            data = data[count:]


class _RunningChecksum:
    """The checksum of a pass over all bytes of a tensor, shared by all views of the tensor."""

    def __init__(self, path: AnyPath, name: str, expected: str, size: int) -> None:
        self.path, self.name, self.expected, self.size = path, name, expected, size
        self.seen = self.crc = 0
        self.finite = True

    def update(self, offset: int, data: memoryview, numbers: Tensor) -> None:
        """Add bytes that were read at `offset`, and are `numbers`, if they continue the pass; compare after the last.

        A file that is damaged as well as not finite is called damaged.
        """
        if offset == 0 and self.seen < self.size:  # an earlier pass was given up
            self._restart()
        if offset != self.seen or self.seen == self.size:
            return
        self.seen += len(data)
        self.crc = zlib.crc32(data, self.crc)
        self.finite = self.finite and all_finite(numbers)
        if self.seen == self.size:
            self._compare()

    def _compare(self) -> None:
        same, finite = f"{self.crc:08x}" == self.expected, self.finite
        if same and finite:
            return
        self._restart()  # so that a caller who goes on is told again
        if not same:
            raise FileFormatError(f"{self.path} is damaged: the checksum of {self.name!r} does not match.", REMAKE)
        raise FileFormatError(f"{self.path} cannot be used: {self.name} holds numbers that are not finite.", REMAKE)

    def ensure(self, read_all: Callable[[], None]) -> None:
        """Make a whole pass with `read_all` unless there has been one."""
        if self.seen < self.size:
            self._restart()
            read_all()

    def _restart(self) -> None:
        self.seen = self.crc = 0
        self.finite = True


class _FiniteOnly:
    """In the place of a checksum for a part of a tensor: its numbers are finite."""

    def __init__(self, path: AnyPath, name: str) -> None:
        self.path, self.name = path, name

    def update(self, _offset: int, _data: memoryview, numbers: Tensor) -> None:
        """Look at the numbers that were read."""
        if not all_finite(numbers):
            raise FileFormatError(f"{self.path} cannot be used: {self.name} holds numbers that are not finite.", REMAKE)

    def ensure(self, _read_all: Callable[[], None]) -> None:
        """Nothing more can be known."""


def _runs(index: Tensor) -> list[tuple[int, int]]:
    """Runs of consecutive positions in an ascending index: (first, count)."""
    if not len(index):
        return []
    breaks = (index.diff() != 1).nonzero().squeeze(1) + 1
    edges = [0, *breaks.tolist(), len(index)]
    return [(int(index[begin]), end - begin) for begin, end in pairwise(edges)]
