"""The two file formats, read and written.

Both are safetensors with one metadata entry, `stsimdiff`: a JSON object whose `format` is `stsimdiff.tokens/1` or
`stsimdiff.compressed/1`. (One entry, because safetensors writes several in random order, and the same input must give
the same bytes.) A tokens file holds `features` (T, H, W, D) and the evidence asked for; a compressed file holds
`features` (M, D), `index`, `kind`, `community` and, if pruning needed it, `importance`. Either holds `deepstack` too
((T, H, W, K, D) or (M, K, D)) if the model's encoder hands the LLM features of several layers. A compressed file may
also hold what the method saw of all tokens, for pictures: `change`, `regions` and `centrality` (records.TRACES).
The header is read without torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import FileFormatError, RequestError
from ..records import (
    TRACES,
    CompressedVideo,
    DenseFeatures,
    Layout,
    ModelRef,
    Source,
    TokenFeatures,
    TokenGrid,
    VideoTokens,
)
from .atomic import whole_file

if TYPE_CHECKING:
    from torch import Tensor

TOKENS = "stsimdiff.tokens"
COMPRESSED = "stsimdiff.compressed"
VERSION = 1
_KEY = "stsimdiff"
_AGAIN = "Make it again with `stsimdiff encode` or `stsimdiff compress`."
_BLOCK = 1 << 24  # bytes written at once


# --- writing --------------------------------------------------------------------------------------------------------


def save_tokens(path: str | Path, tokens: VideoTokens) -> int:
    """Write a tokens file atomically; returns its size in bytes."""
    return _save(Path(path), TOKENS, tokens.grid, tokens.tensors, {})


def save_compressed(path: str | Path, video: CompressedVideo) -> int:
    """Write a compressed file atomically; returns its size in bytes."""
    kept = {"index": video.index, "kind": video.kind, "community": video.community, "importance": video.importance}
    small = {name: tensor for name, tensor in {**kept, **video.traces}.items() if tensor is not None}
    tensors: dict[str, TokenFeatures] = {
        "features": video.features,
        **({} if video.deepstack is None else {"deepstack": video.deepstack}),
        **{name: DenseFeatures(tensor, tensor.ndim) for name, tensor in small.items()},
    }
    return _save(Path(path), COMPRESSED, video.grid, tensors, {"method": video.method, "counts": video.counts})


def _save(path: Path, kind: str, grid: TokenGrid, tensors: Mapping[str, TokenFeatures], more: dict[str, Any]) -> int:
    with whole_file(path) as temporary:
        specs = {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
        with closing(VideoFileWriter(temporary, kind, grid, specs, more)) as writer:
            for name, tensor in tensors.items():
                row = math.prod(tensor.shape[1:]) * tensor.dtype.itemsize
                for _, rows in tensor.chunks(max(1, _BLOCK // max(row, 1))):  # it may be in a file, larger than memory
                    writer.append(name, rows)
            writer.finish(grid)
    return path.stat().st_size


class VideoFileWriter:
    """One of our files, whose header is written last, into room that a `draft` of the grid needs."""

    def __init__(
        self, path: Path, kind: str, draft: TokenGrid, specs: Mapping[str, Any], more: Mapping[str, Any]
    ) -> None:
        from importlib.metadata import version

        import torch

        from .tensor_file import TensorFileWriter

        versions = {"stsimdiff": __version__, "torch": torch.__version__, "transformers": version("transformers")}
        self.header = {"format": f"{kind}/{VERSION}", "versions": versions, **more}
        ends = [1 << 60] * 2
        entries = {name: {"dtype": "FLOAT", "shape": shape, "data_offsets": ends} for name, (_, shape) in specs.items()}
        metadata = self._metadata(draft, dict.fromkeys(specs, "0" * 8))
        self.file = TensorFileWriter(path, specs, len(json.dumps({"__metadata__": metadata, **entries}).encode()))
        self.append, self.close = self.file.append, self.file.close

    def _metadata(self, grid: TokenGrid, checksums: dict[str, str]) -> dict[str, str]:
        header = {**self.header, "grid": asdict(grid), "checksums": checksums}
        return {_KEY: json.dumps(header, sort_keys=True, separators=(",", ":"))}

    def finish(self, grid: TokenGrid) -> None:
        """Write the header; `grid` says what came."""
        self.file.finish(lambda checksums: self._metadata(grid, checksums))


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
        self.kind: str = self.header["format"].rpartition("/")[0]
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

    def tokens(self, stay: bool = False) -> VideoTokens:
        """The whole tokens file, checked; to `stay` in the file, its tensors are read (and checked) when asked for."""
        if self.compressed:
            raise RequestError(
                f"{self.path} is already compressed.", "Give the tokens file (`stsimdiff encode`) or the video."
            )
        try:
            if not stay:
                return VideoTokens.of(self.grid, self._tensors())
            held = self._stored()
            return VideoTokens(self.grid, held.pop("features"), deepstack=held.pop("deepstack", None), evidence=held)
        except (KeyError, ValueError) as error:
            raise FileFormatError(f"{self.path} was edited: {error}.", _AGAIN) from error

    def video(self) -> CompressedVideo:
        """The whole compressed file, checked."""
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
            raise FileFormatError(f"{self.path} was edited: {error}.", _AGAIN) from error
        return video

    def _stored(self) -> dict[str, TokenFeatures]:
        from .lazy_tensor import FileFeatures

        return {name: FileFeatures(self.path, name, crc) for name, crc in self.header["checksums"].items()}

    def _tensors(self) -> dict[str, Tensor]:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from .tensor_file import checksum

        try:
            tensors = load_file(self.path)
        except SafetensorError as error:
            raise FileFormatError(f"{self.path} is damaged: {error}.", _AGAIN) from error
        for name, expected in self.header["checksums"].items():
            if name not in tensors or checksum(tensors[name]) != expected:
                raise FileFormatError(f"{self.path} is damaged: the checksum of {name!r} does not match.", _AGAIN)
        return tensors


def check_index(index: Any, tokens: int) -> None:
    """ValueError unless an index (a tensor or an array) is (M,) increasing positions among `tokens`, M at least 1."""
    if index.ndim == 1 and len(index) and index[0] >= 0 and index[-1] < tokens and (index[1:] > index[:-1]).all():
        return
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
        header: dict[str, Any] = json.loads(metadata[_KEY])
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
