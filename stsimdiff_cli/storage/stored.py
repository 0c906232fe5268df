"""What can be read of a stored video, whether it is one file or a folder of segments."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from ..errors import FileFormatError, RequestError
from ..records import TRACES, CompressedVideo, TokenGrid, VideoTokens
from ..token_features import DenseFeatures, TokenFeatures
from .formats import REMAKE
from .packing import PACKED, SCALE, Packing
from .stores import AnyPath

if TYPE_CHECKING:
    from torch import Tensor

    from .file_features import StoredFeatures


class Stored(ABC):
    """The tokens or the kept tokens of a video on disk. Its headers have been read and checked."""

    path: AnyPath
    header: dict[str, Any]
    grid: TokenGrid
    compressed: bool  # else it holds all tokens
    versions: dict[str, str]  # of the packages that wrote it
    packing: Packing | None  # of its features; None if they are stored as floats
    method: dict[str, Any]
    counts: dict[str, int]
    notes: tuple[str, ...]  # what a user should know about it, in sentences
    bytes: int  # on disk

    @abstractmethod
    def names(self) -> list[str]:
        """The names of its tensors."""

    @abstractmethod
    def check(self) -> None:
        """Compare the checksum of every tensor. FileFormatError for the first that does not match."""

    @abstractmethod
    def array(self, name: str) -> Any:
        """An integer or float32 tensor as a numpy array, read without torch and checked."""

    @abstractmethod
    def file_features(self) -> dict[str, StoredFeatures]:
        """Every tensor, none of which has been read."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Every tensor, in memory and checked."""

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
            features |= self._dense_features() if in_memory else self.file_features()
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
        for name, values in self.file_features().items():
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
        tensors = self.tensors()
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
        return {name: DenseFeatures(tensor) for name, tensor in self.tensors().items()}

    def _unpacking(self, stored: dict[str, TokenFeatures]) -> dict[str, TokenFeatures]:
        """The packed ones of some features, with their scales, which are removed from `stored`."""
        if self.packing is None:
            return {}
        from .packed import PackedFeatures

        packed = {name: stored.pop(name + SCALE) for name in PACKED if name in stored}
        width = self.grid.width
        return {name: PackedFeatures(stored[name], scales, width, self.packing) for name, scales in packed.items()}
