"""A tokens file or a compressed file: the header is read at once and without torch, the tensors when asked for."""

from __future__ import annotations

import zlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FileFormatError
from .formats import REMAKE
from .header import read_header
from .schema import CompressedHeader, check_values
from .stored import Stored
from .stores import AnyPath

if TYPE_CHECKING:
    from torch import Tensor

    from .file_features import StoredFeatures

#: The types of numbers that numpy has, too.
NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1"}
#: The note about a file before 0.2.
UNPROTECTED = (
    "{path} was written before files protected their header: damage to its times, names or counts may go unnoticed."
)
BLOCK = 1 << 23  # bytes read at a time where nothing is kept


class StoredVideo(Stored):
    """A tokens file or a compressed file whose header has been read and checked.

    Raises RequestError for a missing file; FileFormatError for a file that is truncated, damaged, edited, not written
    by stsimdiff, or of a newer format.
    """

    def __init__(self, path: AnyPath) -> None:
        found = read_header(path)
        self.path, self.bytes = path, max(entry.end for entry in found.tensors.values())
        self.header, self.digest = found.data, found.digest
        self.grid = found.record.grid
        self.compressed = isinstance(found.record, CompressedHeader)
        self.versions, self.packing = found.record.versions, found.record.packing
        self.method, self.counts = {}, {}
        if isinstance(found.record, CompressedHeader):
            self.method, self.counts = asdict(found.record.method), found.record.counts
        self.notes = () if found.protected else (UNPROTECTED.format(path=path),)
        self._checksums, self._entries = found.record.checksums, found.tensors

    def names(self) -> list[str]:
        """See Stored."""
        return list(self._checksums)

    def check(self) -> None:
        """See Stored."""
        with self.path.open("rb") as file:
            for name, entry in self._entries.items():
                file.seek(entry.begin)
                crc, left = 0, entry.end - entry.begin
                while left and (block := file.read(min(left, BLOCK))):
                    crc, left = zlib.crc32(block, crc), left - len(block)
                if left or f"{crc:08x}" != self._checksums[name]:
                    raise self._damaged(name)

    def array(self, name: str) -> Any:
        """See Stored."""
        import numpy as np

        entry = self._entries.get(name)
        if entry is None or entry.dtype not in NUMPY:
            raise FileFormatError(f"{self.path} has no {name} that can be shown: it was edited.", REMAKE)
        with self.path.open("rb") as file:
            file.seek(entry.begin)
            data = file.read(entry.end - entry.begin)
        if f"{zlib.crc32(data):08x}" != self._checksums[name]:
            raise self._damaged(name)
        values = np.frombuffer(data, NUMPY[entry.dtype]).reshape(entry.shape)
        self._check(name, values)
        return values

    def file_features(self) -> dict[str, StoredFeatures]:
        """See Stored."""
        from .file_features import FileFeatures

        return {name: FileFeatures(self.path, name, self._entries[name], crc) for name, crc in self._checksums.items()}

    def tensors(self) -> dict[str, Tensor]:
        """See Stored."""
        from safetensors import SafetensorError
        from safetensors.torch import load, load_file

        from .tensor_file import checksum

        path = self.path
        data = b"" if isinstance(path, Path) else path.read_part(0, self.bytes)
        try:
            tensors = load_file(path) if isinstance(path, Path) else load(data)
        except (SafetensorError, OSError) as error:
            raise FileFormatError(f"{self.path} is damaged: {error}.", REMAKE) from error
        for name, expected in self._checksums.items():
            if name not in tensors or checksum(tensors[name]) != expected:
                raise self._damaged(name)
            self._check(name, tensors[name])
        return tensors

    def _damaged(self, name: str) -> FileFormatError:
        return FileFormatError(f"{self.path} is damaged: the checksum of {name!r} does not match.", REMAKE)

    def _check(self, name: str, values: Any) -> None:
        try:
            check_values(name, values, self.grid.tokens)
        except ValueError as error:
            raise FileFormatError(f"{self.path} cannot be used: {error}.", REMAKE) from error
