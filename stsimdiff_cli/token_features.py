"""Token features: a tensor with one entry for each visual token, in memory or in a file.

Methods and the graph read features through the protocol `TokenFeatures` and work on videos larger than memory:
DenseFeatures wraps a tensor, storage.file_features.FileFeatures reads a file chunk by chunk, and
storage.packed.PackedFeatures unpacks what was stored in few bits. This module imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class TokenFeatures(Protocol):
    """Features of shape (T, H, W, ...) for all tokens of a video, or (M, ...) for kept tokens.

    A row is an entry of the first dimension: a slot, or a kept token.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, H, W, ...) or (M, ...)."""

    @property
    def dtype(self) -> torch.dtype:
        """The type of the numbers."""

    @property
    def device(self) -> torch.device:
        """The device on which `chunks` and `tensor` deliver."""

    @property
    def chunk_rows(self) -> int:
        """How many rows to read per step: all of them in memory, about 128 MB from a file, 32 MB if packed."""

    def chunks(self, rows: int | None = None, wanted: Tensor | None = None) -> Iterator[tuple[int, Tensor]]:
        """Yield the first row and the numbers (n, ...) of each chunk of at most `rows` rows (default: `chunk_rows`).

        A chunk is valid only until the next one, because a file is read into the same memory again and again.
        With `wanted` (rows,) bool, a chunk begins with its first wanted row and ends with its last; chunks without a
        wanted row are left out.
        """

    def gather(self, index: Tensor) -> TokenFeatures:
        """The tokens at flat positions `index` (M,), ascending: (M, ...). Those of a file stay in the file."""

    def to(self, device: torch.device | str) -> TokenFeatures:
        """The same features, delivered on another device."""

    def in_memory(self) -> TokenFeatures:
        """The same features in memory; those of a packed file stay packed."""

    def tensor(self) -> Tensor:
        """All features as one tensor in memory."""


class DenseFeatures:
    """Token features in memory: wraps a tensor (T, H, W, ...), or (M, ...) with `token_dims=1`."""

    def __init__(self, tensor: Tensor, token_dims: int = 3) -> None:
        if tensor.ndim < token_dims:
            raise ValueError(f"expected features of at least {token_dims} dimensions, got {tuple(tensor.shape)}")
        self._tensor, self._token_dims = tensor, token_dims

    def __repr__(self) -> str:
        return f"DenseFeatures({describe(self._tensor)})"

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, H, W, ...) or (M, ...)."""
        return tuple(self._tensor.shape)

    @property
    def dtype(self) -> torch.dtype:
        """The type of the numbers."""
        return self._tensor.dtype

    @property
    def device(self) -> torch.device:
        """The device of the tensor."""
        return self._tensor.device

    @property
    def chunk_rows(self) -> int:
        """All rows: they are in memory already."""
        return max(1, len(self._tensor))

    def chunks(self, rows: int | None = None, wanted: Tensor | None = None) -> Iterator[tuple[int, Tensor]]:
        """See TokenFeatures; chunks are views of the tensor."""
        for begin, end in spans(len(self._tensor), rows or self.chunk_rows, wanted):
            yield begin, self._tensor[begin:end]

    def gather(self, index: Tensor) -> DenseFeatures:
        """The tokens at flat positions `index` (M,): (M, ...)."""
        flat = self._tensor.flatten(0, self._token_dims - 1)
        return DenseFeatures(flat[index.to(flat.device)], token_dims=1)

    def to(self, device: torch.device | str) -> DenseFeatures:
        """The same features on another device."""
        return DenseFeatures(self._tensor.to(device), self._token_dims)

    def in_memory(self) -> DenseFeatures:
        """The features themselves."""
        return self

    def tensor(self) -> Tensor:
        """The tensor itself, not a copy."""
        return self._tensor


def spans(rows: int, step: int, wanted: Tensor | None = None) -> Iterator[tuple[int, int]]:
    """First row and end of each chunk that `TokenFeatures.chunks` yields, `step` rows per chunk."""
    for begin in range(0, rows, step):
        end = min(begin + step, rows)
        if wanted is None:
            yield begin, end
            continue
        positions = wanted[begin:end].nonzero()
        if len(positions):
            yield begin + int(positions[0]), begin + int(positions[-1]) + 1


def describe(tensor: Any) -> str:
    """The type and shape of a tensor or of features, for example float32(4, 3, 5, 16)."""
    return f"{str(tensor.dtype).removeprefix('torch.')}{tuple(tensor.shape)}"
