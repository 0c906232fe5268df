"""safetensors files of any size: laid out in advance, written and read by rows.

The safetensors library writes whole tensors and maps whole files; here memory holds what is being handed over. The
format is the library's own (8 bytes of length, a JSON header that spaces may end, then the tensors without gaps), so
that it reads what is written here, and the other way round.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import FileFormatError

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_TYPES = {name: dtype for dtype, name in _NAMES.items()}
_BLOCK = 1 << 24  # bytes moved at once
CHUNK = 1 << 27  # bytes of a tensor that a pass reads at once

#: A tensor's type and shape.
Spec = tuple[torch.dtype, tuple[int, ...]]


class TensorFileWriter:
    """A file for tensors of known types and shapes whose rows come one after the other.

    `reserve` bytes are kept for the header. Fewer rows than announced may come: the file closes up.
    """

    def __init__(self, path: Path, specs: Mapping[str, Spec], reserve: int) -> None:
        self.specs = dict(specs)
        self.begin = 8 + -(-reserve // 8) * 8
        # Wide types first, as the library does it, so that every tensor begins at a multiple of its item's size.
        self.names = sorted(specs, key=lambda name: (-specs[name][0].itemsize, name))
        self.start, end = {}, self.begin
        for name in self.names:
            self.start[name] = end
            end += _row_bytes(specs[name]) * specs[name][1][0]
        self.written = dict.fromkeys(specs, 0)  # bytes
        self.crc = dict.fromkeys(specs, 0)
        self.file = path.open("r+b")
        try:
            if hasattr(os, "posix_fallocate") and end:
                os.posix_fallocate(self.file.fileno(), 0, end)  # a full disk shows before the work, not after it
        except OSError:
            self.close()
            raise

    def append(self, name: str, rows: Tensor) -> None:
        """Write the next rows of a tensor, (n, ...)."""
        dtype, shape = self.specs[name]
        if rows.dtype != dtype or tuple(rows.shape[1:]) != shape[1:]:
            raise ValueError(f"expected rows of {name} {dtype} {shape[1:]}, got {rows.dtype} {tuple(rows.shape[1:])}")
        data = _bytes(rows.detach().cpu().contiguous())
        if self.written[name] + len(data) > _row_bytes(self.specs[name]) * shape[0]:
            raise ValueError(f"expected {shape[0]} rows of {name}, got more")
        self.file.seek(self.start[name] + self.written[name])
        self.file.write(data)
        self.written[name] += len(data)
        self.crc[name] = zlib.crc32(data, self.crc[name])

    def finish(self, metadata: Callable[[dict[str, str]], dict[str, str]]) -> None:
        """Write the header; `metadata` makes its entries from the CRC-32 of each tensor."""
        header: dict[str, Any] = {"__metadata__": metadata({name: f"{crc:08x}" for name, crc in self.crc.items()})}
        end = self.begin
        for name in self.names:
            self._move(self.start[name], end, self.written[name])
            dtype, shape = self.specs[name]
            rows = self.written[name] // _row_bytes(self.specs[name]) if self.written[name] else 0
            offsets = [end - self.begin, end - self.begin + self.written[name]]
            header[name] = {"dtype": _NAMES[dtype], "shape": [rows, *shape[1:]], "data_offsets": offsets}
            end += self.written[name]
        text = json.dumps(header, separators=(",", ":")).encode()
        if len(text) > self.begin - 8:
            raise ValueError(f"expected a header of at most {self.begin - 8} bytes, got {len(text)}")
        self.file.seek(0)
        self.file.write((self.begin - 8).to_bytes(8, "little") + text.ljust(self.begin - 8))
        self.file.truncate(end)
        self.close()

    def close(self) -> None:
        """Let go of the file; one that is not finished is none."""
        self.file.close()

    def _move(self, source: int, target: int, count: int) -> None:
        """Move bytes towards the beginning of the file."""
        for done in range(0, count if source != target else 0, _BLOCK):
            self.file.seek(source + done)
            data = self.file.read(min(_BLOCK, count - done))
            self.file.seek(target + done)
            self.file.write(data)


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
        self.dtype: torch.dtype = _TYPES[entry["dtype"]]
        self.shape = torch.Size(entry["shape"])
        self._start = 8 + size + entry["data_offsets"][0]
        self._check = _Check(path, name, checksum, math.prod(self.shape) * self.dtype.itemsize)
        self._index: Tensor | None = None
        self.device = torch.device("cpu")

    @property
    def rows_at_once(self) -> int:
        """Rows of about 128 MB: few enough for memory, and enough for passes that meet their neighbours."""
        return max(1, CHUNK // _row_bytes((self.dtype, tuple(self.shape))))

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
        rows = max(1, _BLOCK // _row_bytes((self.dtype, tuple(self.shape))))
        read = self.reader()
        for begin in range(0, len(self), rows):
            read(slice(begin, begin + rows))

    def _read(self, begin: int, out: Tensor) -> None:
        """Fill `out` with rows from `begin` on."""
        if not out.numel():
            return
        data, row = _bytes(out), _row_bytes((self.dtype, tuple(self.shape)))
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


def _row_bytes(spec: Spec) -> int:
    dtype, shape = spec
    return math.prod(shape[1:]) * dtype.itemsize


def checksum(tensor: Tensor) -> str:
    """CRC-32 of a tensor's bytes: safetensors itself does not notice a flipped bit."""
    return f"{zlib.crc32(_bytes(tensor.contiguous())):08x}"


def _bytes(tensor: Tensor) -> memoryview:
    """The memory of a contiguous tensor."""
    data: Any = tensor.view(-1).view(torch.uint8).numpy()
    return memoryview(data)
