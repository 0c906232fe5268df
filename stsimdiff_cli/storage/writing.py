"""Writes tokens files and compressed files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import RequestError
from ..records import ArchiveMark, CompressedVideo, TokenGrid, VideoTokens
from ..token_features import DenseFeatures, TokenFeatures
from .atomic import whole_file
from .directory import LONGEST
from .formats import COMPRESSED, DIGEST, KEY, PACKED_VERSION, TOKENS, VERSION
from .header import digest, encode_header
from .schema import most_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from .form import Form

_BLOCK = 1 << 24  # bytes written at a time


def save_tokens(path: str | Path, tokens: VideoTokens, store: str | None = None) -> int:
    """Write a tokens file atomically; returns its size in bytes. `store` as for `save_compressed`."""
    return _save(Path(path), TOKENS, tokens.grid, tokens.tensors, {}, store)


def save_compressed(
    path: str | Path, video: CompressedVideo, mark: ArchiveMark | None = None, store: str | None = None
) -> int:
    """Write a compressed file atomically; returns its size in bytes. `mark` names its item if it is one of many.

    `store` is the form of the features, one of packing.STORES; None leaves them as they are, packed ones too.
    RequestError for features that are too large for it.
    """
    if video.grid.tokens > most_tokens(len(video.index)):
        raise RequestError(
            f"{len(video.index)} of {video.grid.tokens} tokens are too few for a compressed file.",
            "Keep at least one in a thousand: --ratio 0.001 or more.",
        )
    return _save(Path(path), COMPRESSED, video.grid, _tensors(video), _entries(video, mark), store)


@dataclass(frozen=True)
class FileSize:
    """Bytes of a file as a whole, header included, and of its tensors for each kept token."""

    total: int
    token: int


def compressed_size(video: CompressedVideo, mark: ArchiveMark | None = None, store: str | None = None) -> FileSize:
    """How large the file would be that `save_compressed` writes; nothing is written, and no features are read."""
    from .tensor_file import begin_of, row_bytes

    _, form = _formed(_tensors(video), store)
    _, reserve = _header_room(COMPRESSED, video.grid, form, _entries(video, mark))
    tensors = sum(row_bytes(spec) * spec[1][0] for spec in form.specs.values())
    named = [spec for name, spec in form.specs.items() if name not in ("change", "regions", "whole_of")]
    return FileSize(begin_of(reserve) + tensors, sum(map(row_bytes, named)))


def _entries(video: CompressedVideo, mark: ArchiveMark | None) -> dict[str, Any]:
    return {"method": video.method, "counts": video.counts, **archive_entry(mark)}


def _tensors(video: CompressedVideo) -> dict[str, TokenFeatures]:
    kept = {"index": video.index, "kind": video.kind, "community": video.community, "importance": video.importance}
    small = {name: tensor for name, tensor in {**kept, **video.traces}.items() if tensor is not None}
    return {
        "features": video.features,
        **({} if video.deepstack is None else {"deepstack": video.deepstack}),
        **{name: DenseFeatures(tensor, tensor.ndim) for name, tensor in small.items()},
    }


def archive_entry(mark: ArchiveMark | None) -> dict[str, Any]:
    """The header's entry for a file that was made among many; none for any other, whose bytes stay what they were."""
    return {} if mark is None else {"archive": asdict(mark)}


def _save(
    path: Path,
    name: str,
    grid: TokenGrid,
    tensors: Mapping[str, TokenFeatures],
    entries: dict[str, Any],
    store: str | None,
) -> int:
    tensors, form = _formed(tensors, store)
    with whole_file(path) as temporary, closing(VideoFileWriter(temporary, name, grid, form, entries)) as writer:
        for tensor, values in tensors.items():
            row = math.prod(values.shape[1:]) * values.dtype.itemsize
            for _, rows in values.chunks(max(1, _BLOCK // max(row, 1))):  # features may be larger than memory
                writer.append(tensor, rows)
        writer.finish(grid)
    return path.stat().st_size


def _formed(tensors: Mapping[str, TokenFeatures], store: str | None) -> tuple[Mapping[str, TokenFeatures], Form]:
    """The tensors as they are given to a writer, and the form that it gives them."""
    from .form import Form, still_packed

    tensors, packing = still_packed(tensors, store)
    specs = {tensor: (values.dtype, values.shape) for tensor, values in tensors.items()}
    return tensors, Form(store, specs) if packing is None else Form.of_packed(packing, specs)


def _header_room(name: str, draft: TokenGrid, form: Form, entries: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """All entries of the header besides grid and checksums, and the bytes that are reserved for it."""
    from importlib.metadata import version

    import torch

    from .tensor_file import header_bytes

    versions = {"stsimdiff": __version__, "torch": torch.__version__, "transformers": version("transformers")}
    number = VERSION
    if form.packing is not None:
        entries, number = {**entries, "packing": asdict(form.packing)}, PACKED_VERSION
    entries = {"format": f"{name}/{number}", "versions": versions, **entries}
    metadata = {KEY: encode_header(entries, draft, dict.fromkeys(form.specs, "0" * 8)), DIGEST: "0" * 64}
    return entries, header_bytes(form.specs, metadata)


class VideoFileWriter:
    """A tokens or compressed file, written row by row.

    The header is written last, into room that is reserved for it at the beginning of the file. `draft` is a grid
    whose header is at least as long as the final one.
    """

    def __init__(self, path: Path, name: str, draft: TokenGrid, form: Form, entries: Mapping[str, Any]) -> None:
        from .tensor_file import TensorFileWriter

        self._form = form
        self._entries, reserve = _header_room(name, draft, form, entries)
        if reserve > LONGEST:
            raise RequestError(
                f"{len(draft.seconds)} slots are too many for one file: its header would have {reserve} bytes.",
                f"At most {LONGEST} bytes are possible; choose fewer frames.",
            )
        self._file = TensorFileWriter(path, form.specs, reserve)
        self.close = self._file.close

    def append(self, name: str, rows: Tensor) -> None:
        """Write the next rows of a tensor that the form was given. Errors as Form.stored, and TensorFileWriter."""
        for stored, tensor in self._form.stored(name, rows).items():
            self._file.append(stored, tensor)

    def finish(self, grid: TokenGrid) -> None:
        """Write the header and close the file; `grid` describes the rows that were written."""

        def metadata(checksums: dict[str, str], tensors: dict[str, Any]) -> dict[str, str]:
            text = encode_header(self._entries, grid, checksums)
            return {KEY: text, DIGEST: digest(text, tensors)}

        self._file.finish(metadata)
