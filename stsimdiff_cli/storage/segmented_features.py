"""Token features in several files, one for each segment of a video, read as if they were in one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from ..token_features import DenseFeatures, describe, spans
from .file_features import StoredFeatures


class SegmentedFeatures:
    """The rows of one file after those of another; implements file_features.StoredFeatures.

    Chunks are those that one file would give, whatever the segments are. Checksums are compared as by FileFeatures,
    each when a pass comes to the end of its file. ValueError for files whose features do not fit each other.
    """

    def __init__(self, parts: Sequence[StoredFeatures]) -> None:
        forms = {(part.dtype, part.shape[1:]) for part in parts}
        if len(forms) != 1:
            raise ValueError(f"expected features of one type and width in all segments, got {len(forms)} kinds")
        self._parts = list(parts)
        self._begins = [0, *accumulate(part.shape[0] for part in parts)]
        self._device = torch.device("cpu")
        self._token_dims = 3

    def __repr__(self) -> str:
        return f"SegmentedFeatures({len(self._parts)} segments, {describe(self)})"

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, H, W, ...), or (M, ...) for gathered tokens."""
        return (self._begins[-1], *self._parts[0].shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        """The type of the numbers."""
        return self._parts[0].dtype

    @property
    def device(self) -> torch.device:
        """The device on which `chunks` and `tensor` deliver."""
        return self._device

    @property
    def chunk_rows(self) -> int:
        """As FileFeatures."""
        return self._parts[0].chunk_rows

    def chunks(self, rows: int | None = None, wanted: Tensor | None = None) -> Iterator[tuple[int, Tensor]]:
        """See TokenFeatures. All chunks are read into one buffer."""
        if wanted is not None:
            self.check()
        step = min(rows or self.chunk_rows, max(1, self.shape[0]))
        buffer = torch.empty((step, *self.shape[1:]), dtype=self.dtype)
        for begin, end in spans(self.shape[0], step, wanted):
            self.read(begin, buffer[: end - begin])
            yield begin, buffer[: end - begin].to(self.device)

    def part(self, begin: int, end: int) -> SegmentedFeatures:
        """The rows from `begin` to `end`. Nothing else is read, so there is no checksum to compare."""
        return self._like([part.part(a, b) for part, a, b in self._between(begin, end)], self._token_dims)

    def gather(self, index: Tensor) -> SegmentedFeatures:
        """The tokens at flat positions `index` (M,), ascending: (M, ...). They stay in their files."""
        index = index.cpu()
        size = torch.Size(self.shape[1 : self._token_dims]).numel()
        edges = torch.searchsorted(index, size * torch.tensor(self._begins)).tolist()
        taken = [
            part.gather(index[a:b] - size * begin)
            for part, begin, a, b in zip(self._parts, self._begins, edges, edges[1:], strict=False)
            if a < b
        ]
        return self._like(taken or [self._parts[0].gather(index)], token_dims=1)

    def to(self, device: torch.device | str) -> SegmentedFeatures:
        """The same features, delivered on another device."""
        other = self._like(self._parts, self._token_dims)
        other._device = torch.device(device)
        return other

    def in_memory(self) -> DenseFeatures:
        """The same features in memory."""
        return DenseFeatures(self.tensor(), self._token_dims)

    def tensor(self) -> Tensor:
        """All features as one tensor in memory."""
        out = torch.empty(self.shape, dtype=self.dtype)
        self.read(0, out)
        return out.to(self.device)

    def _like(self, parts: Sequence[StoredFeatures], token_dims: int) -> SegmentedFeatures:
        other = SegmentedFeatures(parts)
        other._device, other._token_dims = self._device, token_dims
        return other

    def check(self) -> None:
        """See StoredFeatures."""
        for part in self._parts:
            part.check()

    def read(self, begin: int, out: Tensor) -> None:
        """See StoredFeatures."""
        done = 0
        for part, first, last in self._between(begin, begin + len(out)):
            part.read(first, out[done : done + last - first])
            done += last - first

    def _between(self, begin: int, end: int) -> Iterator[tuple[StoredFeatures, int, int]]:
        """The files that hold the rows from `begin` to `end`, and which of their rows these are."""
        for part, start in zip(self._parts, self._begins, strict=False):
            first, last = max(begin - start, 0), min(end - start, part.shape[0])
            if first < last:
                yield part, first, last
