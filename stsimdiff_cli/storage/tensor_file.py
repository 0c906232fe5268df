"""Writes safetensors files larger than memory: laid out in advance, then written row by row.

The safetensors library writes whole tensors only. The format is the library's own (8 bytes with the header's length, a
JSON header padded with spaces, the tensors without gaps): either reads what the other writes.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

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
TYPES = {name: dtype for dtype, name in _NAMES.items()}
BLOCK = 1 << 24  # bytes moved at a time

#: A tensor's type and shape.
Spec = tuple[torch.dtype, tuple[int, ...]]


class TensorFileWriter:
    """A file for tensors of known types and largest shapes, whose rows arrive one after the other.

    `reserve` bytes are kept free for the header. If fewer rows arrive than `specs` announce, the tensors after them
    are moved forward when the file is finished.
    """

    def __init__(self, path: Path, specs: Mapping[str, Spec], reserve: int) -> None:
        self.specs = dict(specs)
        self.begin = begin_of(reserve)
        # Wide types first, as in the library, so that every tensor begins at a multiple of its item size.
        self.names = sorted(specs, key=lambda name: (-specs[name][0].itemsize, name))
        self.start, end = {}, self.begin
        for name in self.names:
            self.start[name] = end
            end += row_bytes(specs[name]) * specs[name][1][0]
        self.written = dict.fromkeys(specs, 0)  # bytes
        self.crc = dict.fromkeys(specs, 0)
        self.file = path.open("r+b")
        try:
            if hasattr(os, "posix_fallocate") and end:
                os.posix_fallocate(self.file.fileno(), 0, end)  # fail on a full disk before the work, not after it
        except OSError:
            self.close()
            raise

    def append(self, name: str, rows: Tensor) -> None:
        """Write the next rows of a tensor, (n, ...). Raises ValueError for another type or shape, or too many rows."""
        dtype, shape = self.specs[name]
        if rows.dtype != dtype or tuple(rows.shape[1:]) != shape[1:]:
            raise ValueError(f"expected rows of {name} {dtype} {shape[1:]}, got {rows.dtype} {tuple(rows.shape[1:])}")
        data = memory_of(rows.detach().cpu().contiguous())
        if self.written[name] + len(data) > row_bytes(self.specs[name]) * shape[0]:
            raise ValueError(f"expected {shape[0]} rows of {name}, got more")
        self.file.seek(self.start[name] + self.written[name])
        self.file.write(data)
        self.written[name] += len(data)
        self.crc[name] = zlib.crc32(data, self.crc[name])

    def finish(self, metadata: Callable[[dict[str, str], dict[str, Any]], dict[str, str]]) -> None:
        """Write the header and close the file.

        `metadata` returns its entries, given the CRC-32 of each tensor, and the type, shape and offsets of each.
        Raises ValueError if the header is longer than the bytes reserved for it.
        """
        tensors: dict[str, Any] = {}
        end = self.begin
        for name in self.names:
            self._move(self.start[name], end, self.written[name])
            dtype, shape = self.specs[name]
            rows = self.written[name] // row_bytes(self.specs[name]) if self.written[name] else 0
            offsets = [end - self.begin, end - self.begin + self.written[name]]
            tensors[name] = {"dtype": _NAMES[dtype], "shape": [rows, *shape[1:]], "data_offsets": offsets}
            end += self.written[name]
        entries = metadata({name: f"{crc:08x}" for name, crc in self.crc.items()}, tensors)
        text = json.dumps({"__metadata__": entries, **tensors}, separators=(",", ":")).encode()
        if len(text) > self.begin - 8:
            raise ValueError(f"expected a header of at most {self.begin - 8} bytes, got {len(text)}")
        self.file.seek(0)
        self.file.write((self.begin - 8).to_bytes(8, "little") + text.ljust(self.begin - 8))
        self.file.truncate(end)
        self.close()

    def close(self) -> None:
        """Close the file. If it is not finished, it is not a safetensors file."""
        self.file.close()

    def _move(self, source: int, target: int, count: int) -> None:
        """Move bytes towards the beginning of the file, or leave them where they are."""
        for done in range(0, count if source != target else 0, BLOCK):
            self.file.seek(source + done)
            data = self.file.read(min(BLOCK, count - done))
            self.file.seek(target + done)
            self.file.write(data)


def begin_of(reserve: int) -> int:
    """Where the tensors begin after a header with that many bytes reserved for it."""
    return 8 + -(-reserve // 8) * 8


def header_bytes(specs: Mapping[str, Spec], metadata: Mapping[str, str]) -> int:
    """Bytes that suffice for the header of a file, wherever its tensors begin and end."""
    offsets = [1 << 60] * 2
    entries = {name: {"dtype": "FLOAT", "shape": shape, "data_offsets": offsets} for name, (_, shape) in specs.items()}
    return len(json.dumps({"__metadata__": metadata, **entries}).encode())


def row_bytes(spec: Spec) -> int:
    """Bytes of one row of a tensor."""
    dtype, shape = spec
    return math.prod(shape[1:]) * dtype.itemsize


def checksum(tensor: Tensor) -> str:
    """CRC-32 of a tensor's bytes, as eight hexadecimal digits. safetensors itself does not notice a flipped bit."""
    return f"{zlib.crc32(memory_of(tensor.contiguous())):08x}"


def memory_of(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous tensor in memory, not copied."""
    data: Any = tensor.view(-1).view(torch.uint8).numpy()
    return memoryview(data)
