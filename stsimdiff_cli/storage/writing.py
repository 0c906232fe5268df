"""Writes tokens files and compressed files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..records import CompressedVideo, TokenGrid, VideoTokens
from ..token_features import DenseFeatures, TokenFeatures
from .atomic import whole_file
from .formats import COMPRESSED, TOKENS, VERSION
from .header import encode_header

if TYPE_CHECKING:
    from .tensor_file import Spec

_BLOCK = 1 << 24  # bytes written at a time


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


def _save(path: Path, name: str, grid: TokenGrid, tensors: Mapping[str, TokenFeatures], entries: dict[str, Any]) -> int:
    with whole_file(path) as temporary:
        specs = {tensor: (values.dtype, values.shape) for tensor, values in tensors.items()}
        with closing(VideoFileWriter(temporary, name, grid, specs, entries)) as writer:
            for tensor, values in tensors.items():
                row = math.prod(values.shape[1:]) * values.dtype.itemsize
                for _, rows in values.chunks(max(1, _BLOCK // max(row, 1))):  # features may be larger than memory
                    writer.append(tensor, rows)
            writer.finish(grid)
    return path.stat().st_size


class VideoFileWriter:
    """A tokens or compressed file, written row by row.

    The header is written last, into room that is reserved for it at the beginning of the file. `draft` is a grid
    whose header is at least as long as the final one.
    """

    def __init__(
        self, path: Path, name: str, draft: TokenGrid, specs: Mapping[str, Spec], entries: Mapping[str, Any]
    ) -> None:
        from importlib.metadata import version

        import torch

        from .tensor_file import TensorFileWriter, header_bytes

        versions = {"stsimdiff": __version__, "torch": torch.__version__, "transformers": version("transformers")}
        self._entries = {"format": f"{name}/{VERSION}", "versions": versions, **entries}
        metadata = encode_header(self._entries, draft, dict.fromkeys(specs, "0" * 8))
        self._file = TensorFileWriter(path, specs, header_bytes(specs, metadata))
        self.append, self.close = self._file.append, self._file.close

    def finish(self, grid: TokenGrid) -> None:
        """Write the header and close the file; `grid` describes the rows that were written."""
        self._file.finish(lambda checksums: encode_header(self._entries, grid, checksums))
