"""Reads tokens files and compressed files: the header at once and without torch, the tensors when asked for."""

from __future__ import annotations

import zlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FileFormatError, RequestError
from ..records import TRACES, CompressedVideo, VideoTokens
from ..token_features import DenseFeatures, TokenFeatures
from .formats import REMAKE
from .header import read_header
from .packing import PACKED, SCALE
from .regular import check_file
from .schema import CompressedHeader, check_values

if TYPE_CHECKING:
    from torch import Tensor

    from .file_features import FileFeatures

#: The types of numbers that numpy has, too.
NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1"}
#: The note about a file before 0.2.
UNPROTECTED = (
    "{path} was written before files protected their header: damage to its times, names or counts may go unnoticed."
)
BLOCK = 1 << 20  # bytes read at a time where nothing is kept


def load(path: str | Path) -> VideoTokens | CompressedVideo:
    """The contents of a tokens file or a compressed file, in memory. Errors as StoredVideo."""
    stored = StoredVideo(Path(path))
    return stored.video() if stored.compressed else stored.tokens()


class StoredVideo:
    """A tokens file or a compressed file whose header has been read and checked.

    Raises RequestError for a missing file; FileFormatError for a file that is truncated, damaged, edited, not written
    by stsimdiff, or of a newer format.
    """

    def __init__(self, path: Path) -> None:
        found = read_header(path)
        self.path = path
        self.header = found.data
        self.grid = found.record.grid
        self.compressed = isinstance(found.record, CompressedHeader)  # else it is a tokens file
        self.versions = found.record.versions  # of the packages that wrote it
        self.packing = found.record.packing  # of its features; None if they are stored as floats
        self.method: dict[str, Any] = {}
        self.counts: dict[str, int] = {}
        if isinstance(found.record, CompressedHeader):
            self.method, self.counts = asdict(found.record.method), found.record.counts
        self.notes: tuple[str, ...] = () if found.protected else (UNPROTECTED.format(path=path),)
        self._checksums, self._entries = found.record.checksums, found.tensors

    def names(self) -> list[str]:
        """The names of the tensors in the file."""
        return list(self._checksums)

    def check(self) -> None:
        """Compare the checksum of every tensor. FileFormatError for the first that does not match."""
        with self.path.open("rb") as file:
            for name, entry in self._entries.items():
                file.seek(entry.begin)
                crc, left = 0, entry.end - entry.begin
                while left and (block := file.read(min(left, BLOCK))):
                    crc, left = zlib.crc32(block, crc), left - len(block)
                if left or f"{crc:08x}" != self._checksums[name]:
                    raise self._damaged(name)

    def array(self, name: str) -> Any:
        """An integer or float32 tensor as a numpy array, read without torch and checked."""
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

    def tokens(self, in_memory: bool = True) -> VideoTokens:
        """The contents of a tokens file, checked; RequestError for a compressed file.

        With `in_memory=False`, features and evidence stay in the file, and are checked when they are read.
        """
        if self.compressed:
            raise RequestError(
                f"{self.path} is already compressed.", "Give the tokens file (`stsimdiff encode`) or the video."
            )
        try:
            features: dict[str, TokenFeatures] = {}
            features |= self._dense_features() if in_memory else self._file_features()
            features |= self._unpacking(features)
            return VideoTokens(
                self.grid, features.pop("features"), deepstack=features.pop("deepstack", None), evidence=features
            )
        except (KeyError, ValueError) as error:
            raise FileFormatError(f"{self.path} was edited: {error}.", REMAKE) from error

    def part(self, slots: range) -> CompressedVideo:
        """The tokens of some slots of either kind of file, in memory; the grid is that of the whole video.

        Of the features only these are read, so damage that leaves them finite numbers is not noticed. All tokens of a
        tokens file count as kept.
        """
        import torch

        cells = self.grid.shape[1] * self.grid.shape[2]
        first, last = slots.start * cells, slots.stop * cells
        if self.compressed:
            stored = self.array("index")
            begin, end = (int(place) for place in stored.searchsorted([first, last]))
            index = torch.tensor(stored[begin:end])
        else:
            begin, end = slots.start, slots.stop
            index = torch.arange(first, last)
        rows: dict[str, TokenFeatures] = {}
        for name, values in self._file_features().items():
            if name.removesuffix(SCALE) in PACKED:
                read = values.part(begin, end).tensor()
                rows[name] = DenseFeatures(read if self.compressed else read.flatten(0, 2), token_dims=1)
        rows |= self._unpacking(rows)
        return CompressedVideo(
            grid=self.grid,
            features=rows["features"],
            index=index,
            kind=torch.zeros(len(index), dtype=torch.uint8),
            community=torch.full((len(index),), -1),
            importance=None,
            method=self.method,
            counts={},
            deepstack=rows.get("deepstack"),
        )

    def video(self) -> CompressedVideo:
        """The contents of a compressed file, in memory, checked."""
        tensors = self._tensors()
        try:
            features: dict[str, TokenFeatures] = {
                name: DenseFeatures(tensor, token_dims=1) for name, tensor in tensors.items() if name not in TRACES
            }
            features |= self._unpacking(features)
            video = CompressedVideo(
                grid=self.grid,
                features=features["features"],
                index=tensors["index"],
                kind=tensors["kind"],
                community=tensors["community"],
                importance=tensors.get("importance"),
                method=self.method,
                counts=self.counts,
                deepstack=features.get("deepstack"),
                traces={name: tensors[name] for name in TRACES if name in tensors},
            )
        except (KeyError, ValueError) as error:
            raise FileFormatError(f"{self.path} was edited: {error}.", REMAKE) from error
        return video

    def _dense_features(self) -> dict[str, TokenFeatures]:
        return {name: DenseFeatures(tensor) for name, tensor in self._tensors().items()}

    def _unpacking(self, stored: dict[str, TokenFeatures]) -> dict[str, TokenFeatures]:
        """The packed ones of some features, with their scales, which are removed from `stored`."""
        if self.packing is None:
            return {}
        from .packed import PackedFeatures

        packed = {name: stored.pop(name + SCALE) for name in PACKED if name in stored}
        width = self.grid.width
        return {name: PackedFeatures(stored[name], scales, width, self.packing) for name, scales in packed.items()}

    def _file_features(self) -> dict[str, FileFeatures]:
        from .file_features import FileFeatures

        return {name: FileFeatures(self.path, name, crc) for name, crc in self._checksums.items()}

    def _tensors(self) -> dict[str, Tensor]:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from .tensor_file import checksum

        try:
            tensors = load_file(self.path)
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


def is_stored(path: Path) -> bool:
    """Whether a file is a tokens or compressed file rather than a video. RequestError for a pipe or a folder."""
    check_file(path, "a video, a tokens file or a compressed file")
    if path.suffix == ".safetensors":
        return True
    with path.open("rb") as file:
        start = file.read(9)  # safetensors: 8 bytes of header length, then JSON
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < 100_000_000
