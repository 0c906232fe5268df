"""The two file formats, read and written.

Both are safetensors with one metadata entry, `stsimdiff`: a JSON object whose `format` is `stsimdiff.tokens/1` or
`stsimdiff.compressed/1`. (One entry, because safetensors writes several in random order, and the same input must give
the same bytes.) A tokens file holds `features` (T, H, W, D) and the evidence asked for; a compressed file holds
`features` (M, D), `index`, `kind`, `community` and, if pruning needed it, `importance`. Either holds `deepstack` too
((T, H, W, K, D) or (M, K, D)) if the model's encoder hands the LLM features of several layers.
The header is read without torch.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .errors import FileFormatError, RequestError
from .files import whole_file
from .records import CompressedVideo, Layout, ModelRef, Source, TokenGrid, VideoTokens

if TYPE_CHECKING:
    from torch import Tensor

TOKENS = "stsimdiff.tokens"
COMPRESSED = "stsimdiff.compressed"
VERSION = 1
_KEY = "stsimdiff"
_AGAIN = "Make it again with `stsimdiff encode` or `stsimdiff compress`."


# --- writing --------------------------------------------------------------------------------------------------------


def save_tokens(path: str | Path, tokens: VideoTokens) -> int:
    """Write a tokens file atomically; returns its size in bytes."""
    tensors = {"features": tokens.features, "deepstack": tokens.deepstack, **tokens.evidence}
    return _save(Path(path), TOKENS, tokens.grid, tensors, {})


def save_compressed(path: str | Path, video: CompressedVideo) -> int:
    """Write a compressed file atomically; returns its size in bytes."""
    tensors = {
        "features": video.features,
        "deepstack": video.deepstack,
        "index": video.index,
        "kind": video.kind,
        "community": video.community,
        "importance": video.importance,
    }
    return _save(Path(path), COMPRESSED, video.grid, tensors, {"method": video.method, "counts": video.counts})


def _save(path: Path, kind: str, grid: TokenGrid, given: Mapping[str, Tensor | None], more: dict[str, Any]) -> int:
    import torch
    import transformers
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in given.items() if tensor is not None}
    header = {
        "format": f"{kind}/{VERSION}",
        "grid": asdict(grid),
        "checksums": {name: _checksum(tensor) for name, tensor in tensors.items()},
        "versions": {"stsimdiff": __version__, "torch": torch.__version__, "transformers": transformers.__version__},
        **more,
    }
    text = json.dumps(header, sort_keys=True, separators=(",", ":"))
    with whole_file(path, SafetensorError) as temporary:
        save_file(tensors, temporary, metadata={_KEY: text})
    return path.stat().st_size


def _checksum(tensor: Tensor) -> str:
    """CRC-32 of a tensor's bytes: safetensors itself does not notice a flipped bit."""
    import torch

    data: Any = tensor.contiguous().flatten().view(torch.uint8).numpy()
    return f"{zlib.crc32(data):08x}"


# --- reading --------------------------------------------------------------------------------------------------------


def load(path: str | Path) -> VideoTokens | CompressedVideo:
    """What a tokens file or a compressed file holds."""
    stored = StoredVideo(Path(path))
    return stored.video() if stored.compressed else stored.tokens()


class StoredVideo:
    """An open tokens or compressed file: its header at once, its tensors when asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header = _read_header(path)
        self.kind = self.header["format"].rpartition("/")[0]
        try:
            self.grid = _grid(self.header["grid"])
            self.method: dict[str, Any] = self.header["method"] if self.compressed else {}
            self.counts: dict[str, int] = self.header["counts"] if self.compressed else {}
        except (KeyError, TypeError, ValueError) as error:
            raise FileFormatError(f"The header of {path} was edited: {error!r}.", _AGAIN) from error

    @property
    def compressed(self) -> bool:
        """Whether this is a compressed file (else a tokens file)."""
        return self.kind == COMPRESSED

    def array(self, name: str) -> Any:
        """One of the integer or float32 tensors as a numpy array, without torch."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="np") as file:
                return file.get_tensor(name)
        except SafetensorError as error:
            raise FileFormatError(f"{self.path} has no {name}: it was edited.", _AGAIN) from error

    def names(self) -> list[str]:
        """The tensors in the file."""
        return list(self.header["checksums"])

    def tokens(self) -> VideoTokens:
        """The whole tokens file, checked."""
        if self.compressed:
            raise RequestError(
                f"{self.path} is already compressed.", "Give the tokens file (`stsimdiff encode`) or the video."
            )
        tensors = self._tensors()
        try:
            features, deepstack = tensors.pop("features"), tensors.pop("deepstack", None)
            return VideoTokens(self.grid, features, tensors, deepstack)
        except (KeyError, ValueError) as error:
            raise FileFormatError(f"{self.path} was edited: {error}.", _AGAIN) from error

    def video(self) -> CompressedVideo:
        """The whole compressed file, checked."""
        tensors = self._tensors()
        try:
            video = CompressedVideo(
                grid=self.grid,
                features=tensors["features"],
                index=tensors["index"],
                kind=tensors["kind"],
                community=tensors["community"],
                importance=tensors.get("importance"),
                method=self.method,
                counts=self.counts,
                deepstack=tensors.get("deepstack"),
            )
            _check_index(video)
        except (KeyError, ValueError) as error:
            raise FileFormatError(f"{self.path} was edited: {error}.", _AGAIN) from error
        return video

    def _tensors(self) -> dict[str, Tensor]:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            tensors = load_file(self.path)
        except SafetensorError as error:
            raise FileFormatError(f"{self.path} is damaged: {error}.", _AGAIN) from error
        for name, expected in self.header["checksums"].items():
            if name not in tensors or _checksum(tensors[name]) != expected:
                raise FileFormatError(f"{self.path} is damaged: the checksum of {name!r} does not match.", _AGAIN)
        return tensors


def _check_index(video: CompressedVideo) -> None:
    index, deep, shape = video.index, video.deepstack, tuple(video.features.shape)
    if index.ndim != 1 or len(index) == 0 or shape != (len(index), video.grid.width):
        raise ValueError(f"features {shape} do not go with index {tuple(index.shape)}")
    if deep is not None and (deep.ndim != 3 or (len(deep), deep.shape[2]) != shape):
        raise ValueError(f"deepstack features {tuple(deep.shape)} do not go with features {shape}")
    if int(index[0]) < 0 or int(index[-1]) >= video.grid.tokens or not bool((index[1:] > index[:-1]).all()):
        raise ValueError("the index does not increase within the grid")


def is_stored(path: Path) -> bool:
    """Whether a file is one of ours (else it is taken for a video). Missing files are refused."""
    if not path.exists():
        raise RequestError(f"There is no file {path}.", "Check the name.")
    if path.is_dir():
        raise RequestError(f"{path} is a folder.", "Give a video, a tokens file or a compressed file.")
    if path.suffix == ".safetensors":
        return True
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < 100_000_000


def _read_header(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise RequestError(f"There is no file {path}.", "Check the name.")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise FileFormatError(f"{path} is truncated, or no safetensors file ({error}).", _AGAIN) from error
    if _KEY not in metadata:
        raise FileFormatError(f"{path} was not written by stsimdiff.", _AGAIN)
    try:
        header = json.loads(metadata[_KEY])
        kind, _, version = header["format"].rpartition("/")
        number = int(version)
        if not isinstance(header["checksums"], dict):
            raise TypeError("checksums")
    except (ValueError, TypeError, KeyError) as error:
        raise FileFormatError(f"The header of {path} was edited.", _AGAIN) from error
    if kind not in (TOKENS, COMPRESSED):
        raise FileFormatError(f"{path} has the unknown format {kind!r}.", _AGAIN)
    if number > VERSION:
        raise FileFormatError(
            f"{path} has format {kind}/{number}; this version reads up to {kind}/{VERSION}.",
            "pip install --upgrade stsimdiff",
        )
    return header


def _grid(data: dict[str, Any]) -> TokenGrid:
    layout = data["layout"]
    origin: dict[str, Any] = {
        name: tuple(item) if isinstance(item, list) else item for name, item in data["source"].items()
    }
    shape = tuple(int(side) for side in data["shape"])
    if len(shape) != 3 or min(shape) < 1 or len(data["seconds"]) != shape[0]:
        raise ValueError("grid")
    return TokenGrid(
        shape=shape,
        width=int(data["width"]),
        seconds=tuple(float(second) for second in data["seconds"]),
        layout=Layout(
            before=tuple(layout["before"]),
            between=tuple((position, tuple(ids)) for position, ids in layout["between"]),
            after=tuple(layout["after"]),
        ),
        model=ModelRef(**data["model"]),
        source=Source(**origin),
    )
