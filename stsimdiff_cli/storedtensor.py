"""Tensors that stay in their file: read by rows when asked for, and checked on the way."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import FileFormatError
from .tensorfile import BLOCK, TYPES, memory_of, row_bytes

CHUNK = 1 << 27  # bytes of a tensor that a pass reads at once


class StoredTensor:
    """A tensor in a safetensors file, read when asked for: `[a:b]` reads rows, `[index]` picks rows to be read later.

    `to` says where they are to be read to. It has as much of a tensor's ways as the stages need.

    The first pass over all rows, in order, compares the checksum; whoever picks rows before such a pass causes one.
    FileFormatError if it does not match.
    """

    def __init__(self, path: Path, name: str, checksum: str) -> None:
        self.path, self.name = path, name
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            entry = json.loads(file.read(size))[name]
        self.dtype: torch.dtype = TYPES[entry["dtype"]]
        self.shape = torch.Size(entry["shape"])
        self._start = 8 + size + entry["data_offsets"][0]
        self._check = _Check(path, name, checksum, math.prod(self.shape) * self.dtype.itemsize)
        self._index: Tensor | None = None
        self.device = torch.device("cpu")

    @property
    def rows_at_once(self) -> int:
        """Rows of about 128 MB: few enough for memory, and enough for passes that meet their neighbours."""
        return max(1, CHUNK // row_bytes((self.dtype, tuple(self.shape))))

    @property
    def ndim(self) -> int:
        """Dimensions."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def flatten(self, first: int, last: int) -> StoredTensor:
        """The same with dimensions `first` to `last` in one."""
        shape = (*self.shape[:first], math.prod(self.shape[first : last + 1]), *self.shape[last + 1 :])
        return self._like(shape=torch.Size(shape))

    def to(self, device: torch.device | str) -> StoredTensor:
        """The same, read to a device."""
        return self._like(device=torch.device(device))

    def __getitem__(self, item: slice | Tensor) -> Any:
        if isinstance(item, Tensor):
            self._check.whole(self._pass)
            item = item.cpu()
            index = item if self._index is None else self._index[item]
            return self._like(shape=torch.Size((len(item), *self.shape[1:])), _index=index)
        return self.reader()(item)

    def reader(self) -> Callable[[slice], Tensor]:
        """Reads rows, every time into the same memory: what was read before is gone.

        New memory costs more than reading does.
        """
        held: Tensor | None = None

        def read(rows: slice) -> Tensor:
            nonlocal held
            begin, end, step = rows.indices(len(self))
            if step != 1:
                raise ValueError(f"expected consecutive rows, got {rows}")
            count = max(end - begin, 0)
            if held is None or len(held) < count:
                held = torch.empty((count, *self.shape[1:]), dtype=self.dtype)
            self._read(begin, held[:count])
            return held[:count].to(self.device)

        return read

    def _like(self, **changes: Any) -> StoredTensor:
        other = object.__new__(StoredTensor)
        other.__dict__ |= {**self.__dict__, **changes}
        return other

    def _pass(self) -> None:
        rows = max(1, BLOCK // row_bytes((self.dtype, tuple(self.shape))))
        read = self.reader()
        for begin in range(0, len(self), rows):
            read(slice(begin, begin + rows))

    def _read(self, begin: int, out: Tensor) -> None:
        """Fill `out` with rows from `begin` on."""
        if not out.numel():
            return
        data, row = memory_of(out), row_bytes((self.dtype, tuple(self.shape)))
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
