"""Reads tokens files and compressed files: the header at once and without torch, the tensors when asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FileFormatError, RequestError
from ..records import TRACES, CompressedVideo, VideoTokens
from ..token_features import DenseFeatures, TokenFeatures
from .formats import COMPRESSED, REMAKE
from .header import decode_grid, read_header

if TYPE_CHECKING:
    from torch import Tensor


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
        self.path = path
        self.header = read_header(path)
        self.compressed = self.header["format"].startswith(f"{COMPRESSED}/")  # else it is a tokens file
        try:
            self.grid = decode_grid(self.header["grid"])
            self.method: dict[str, Any] = self.header["method"] if self.compressed else {}
            self.counts: dict[str, int] = self.header["counts"] if self.compressed else {}
        except (KeyError, TypeError, ValueError) as error:
            raise FileFormatError(f"The header of {path} was edited: {error!r}.", REMAKE) from error

    def names(self) -> list[str]:
        """The names of the tensors in the file."""
        return list(self.header["checksums"])

    def array(self, name: str) -> Any:
        """An integer or float32 tensor as a numpy array, without torch."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="np") as file:
                return file.get_tensor(name)
        except SafetensorError as error:
            raise FileFormatError(f"{self.path} has no {name}: it was edited.", REMAKE) from error

    def tokens(self, in_memory: bool = True) -> VideoTokens:
        """The contents of a tokens file, checked; RequestError for a compressed file.

        With `in_memory=False`, features and evidence stay in the file, and are checked when they are read.
        """
        if self.compressed:
            raise RequestError(
                f"{self.path} is already compressed.", "Give the tokens file (`stsimdiff encode`) or the video."
            )
        try:
            if in_memory:
                return VideoTokens.of(self.grid, self._tensors())
            features = self._file_features()
            return VideoTokens(
                self.grid, features.pop("features"), deepstack=features.pop("deepstack", None), evidence=features
            )
        except (KeyError, ValueError) as error:
            raise FileFormatError(f"{self.path} was edited: {error}.", REMAKE) from error

    def video(self) -> CompressedVideo:
        """The contents of a compressed file, in memory, checked."""
        tensors = self._tensors()
        try:
            video = CompressedVideo(
                grid=self.grid,
                features=DenseFeatures(tensors["features"], token_dims=1),
                index=tensors["index"],
                kind=tensors["kind"],
                community=tensors["community"],
                importance=tensors.get("importance"),
                method=self.method,
                counts=self.counts,
                deepstack=DenseFeatures(tensors["deepstack"], token_dims=1) if "deepstack" in tensors else None,
                traces={name: tensors[name] for name in TRACES if name in tensors},
            )
            check_index(video.index, self.grid.tokens)
        except (KeyError, ValueError) as error:
            raise FileFormatError(f"{self.path} was edited: {error}.", REMAKE) from error
        return video

    def _file_features(self) -> dict[str, TokenFeatures]:
        from .file_features import FileFeatures

        return {name: FileFeatures(self.path, name, crc) for name, crc in self.header["checksums"].items()}

    def _tensors(self) -> dict[str, Tensor]:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from .tensor_file import checksum

        try:
            tensors = load_file(self.path)
        except SafetensorError as error:
            raise FileFormatError(f"{self.path} is damaged: {error}.", REMAKE) from error
        for name, expected in self.header["checksums"].items():
            if name not in tensors or checksum(tensors[name]) != expected:
                raise FileFormatError(f"{self.path} is damaged: the checksum of {name!r} does not match.", REMAKE)
        return tensors


def check_index(index: Any, tokens: int) -> None:
    """Raise ValueError unless `index`, a tensor or an array (M,), holds M >= 1 increasing positions below `tokens`."""
    if index.ndim == 1 and len(index) and index[0] >= 0 and index[-1] < tokens and (index[1:] > index[:-1]).all():
        return
    raise ValueError("the index does not increase within the grid")


def is_stored(path: Path) -> bool:
    """Whether a file is a tokens or compressed file rather than a video. Raises RequestError for a missing file."""
    if not path.exists():
        raise RequestError(f"There is no file {path}.", "Check the name.")
    if path.is_dir():
        raise RequestError(f"{path} is a folder.", "Give a video, a tokens file or a compressed file.")
    if path.suffix == ".safetensors":
        return True
    with path.open("rb") as file:
        start = file.read(9)  # safetensors: 8 bytes of header length, then JSON
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < 100_000_000
