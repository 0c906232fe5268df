"""A folder of segments, read as one video."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FileFormatError
from ..records import CompressedVideo, Layout, TokenGrid
from .formats import COMPRESSED, REMAKE
from .segment_index import Index, Segment, read_index
from .stored import Stored
from .stored_video import StoredVideo
from .stores import AnyPath

if TYPE_CHECKING:
    from torch import Tensor

    from .file_features import StoredFeatures


class StoredSegments(Stored):
    """A folder of segments whose index and headers have been read and checked.

    All tensors follow each other: flat positions and communities go on from segment to segment. Raises FileFormatError
    for a segment that is missing, damaged, or not the one that the index names; RequestError for a folder without any.
    """

    def __init__(self, path: AnyPath, among: slice = slice(None)) -> None:
        index = read_index(path)
        chosen = index.segments[among]
        if not chosen:
            raise FileFormatError(f"{path} has no segment yet.", "Give it some: stsimdiff encode --append")
        self._join(path, index, chosen, [_open(path, index, segment) for segment in chosen])

    def _join(self, path: AnyPath, index: Index, segments: Sequence[Segment], files: list[StoredVideo]) -> None:
        self.path, self.index, self.segments, self._files = path, index, segments, files
        first = files[0]
        self.header = {"format": index.format}
        self.compressed = index.kind == COMPRESSED
        self.versions, self.packing, self.method = files[-1].versions, first.packing, first.method
        for file in files:
            if (file.packing, file.method) != (self.packing, self.method):
                raise _foreign(file.path, "is stored or was compressed in another way than the first of its folder")
        self.grid = joined_grid([file.grid for file in files], index.border)
        self.counts = _added([file.counts for file in files])
        self.notes = tuple(dict.fromkeys(note for file in files for note in file.notes))
        self.bytes = sum(file.bytes for file in files)
        self._slots = [0, *accumulate(segment.slots for segment in segments)]
        self._labels = [0, *accumulate(segment.labels for segment in segments)]

    def names(self) -> list[str]:
        """The names of the tensors that all segments have."""
        return [name for name in self._files[0].names() if all(name in file.names() for file in self._files)]

    def check(self) -> None:
        """See Stored."""
        for file in self._files:
            file.check()

    def array(self, name: str) -> Any:
        """See Stored."""
        import numpy as np

        return np.concatenate([self._going_on(name, i, file.array(name)) for i, file in enumerate(self._files)])

    def file_features(self) -> dict[str, StoredFeatures]:
        """See Stored."""
        from .segmented_features import SegmentedFeatures

        found = [file.file_features() for file in self._files]
        return {name: SegmentedFeatures([features[name] for features in found]) for name in self.names()}

    def tensors(self) -> dict[str, Tensor]:
        """See Stored."""
        import torch

        found = [file.tensors() for file in self._files]
        return {
            name: torch.cat([self._going_on(name, i, tensors[name]) for i, tensors in enumerate(found)])
            for name in self.names()
        }

    def part(self, slots: range) -> CompressedVideo:
        """See Stored. Only the segments that hold these slots are read."""
        first, last = (bisect_right(self._slots, slot) - 1 for slot in (slots.start, slots.stop - 1))
        begin, cells = self._slots[first], self.grid.shape[1] * self.grid.shape[2]
        video = super(StoredSegments, self.section(first, last + 1)).part(
            range(slots.start - begin, slots.stop - begin)
        )
        return replace(video, grid=self.grid, index=video.index + begin * cells)

    def past(self, segment: int, slots: int) -> Tensor | None:
        """Features of the last slots (t, H, W, D), at most `slots`, before a segment; None if there are none."""
        begin = self._slots[segment]
        slots = min(slots, begin)
        if not slots:
            return None
        return self.part(range(begin - slots, begin)).features.tensor().unflatten(0, (slots, *self.grid.shape[1:]))

    def section(self, begin: int, end: int) -> StoredSegments:
        """Some of the segments as a video of their own."""
        other = object.__new__(StoredSegments)
        other._join(self.path, self.index, self.segments[begin:end], self._files[begin:end])
        return other

    def _going_on(self, name: str, number: int, values: Any) -> Any:
        """The numbers of a segment (array or tensor) as they are in the whole."""
        _, rows, columns = self.grid.shape
        if name == "index":
            return values + self._slots[number] * rows * columns
        if name in ("community", "regions", "whole_of") and self._labels[number]:
            values = values + 0  # a copy
            values[values >= 0] += self._labels[number]
        return values


def _open(folder: AnyPath, index: Index, segment: Segment) -> StoredVideo:
    """A segment that is the one that the index names; FileFormatError for any other."""
    path = folder / segment.file
    if Path(segment.file).name != segment.file or not path.is_file():
        raise _foreign(path, "is missing, and the folder's index names it")
    file = StoredVideo(path)
    grid = file.grid
    if grid.model.fingerprint != index.model:
        raise _foreign(path, "was made by another model than its folder")
    if (*grid.shape[1:], grid.width) != index.shape or file.compressed != (index.kind == COMPRESSED):
        raise _foreign(path, "has other tokens than its folder")
    times = (grid.seconds[0], grid.seconds[-1])
    if file.digest != segment.digest or grid.shape[0] != segment.slots or times != (segment.first, segment.last):
        raise _foreign(path, "is not the segment that the folder's index names")
    return file


def _foreign(path: AnyPath, reason: str) -> FileFormatError:
    return FileFormatError(f"{path} {reason}.", f"Put back the file that was there, or: {REMAKE}")


def joined_grid(grids: Sequence[TokenGrid], border: tuple[int, ...]) -> TokenGrid:
    """The grid of consecutive segments; `border` are the ids before the first token of each but the first.

    FileFormatError if a segment begins before the one before it ends.
    """
    first, last = grids[0], grids[-1]
    missing = tuple(second for grid in grids for second in grid.source.missing_seconds)
    notes = tuple(dict.fromkeys(note for grid in grids for note in grid.source.notes))
    seconds = tuple(second for grid in grids for second in grid.seconds)
    if any(later.seconds[0] < earlier.seconds[-1] for earlier, later in pairwise(grids)):
        raise FileFormatError("The segments of the folder do not follow each other in time.", REMAKE)
    return replace(
        last,
        shape=(len(seconds), *first.shape[1:]),
        seconds=seconds,
        layout=Layout(first.layout.before, tuple(_between(grids, border)), last.layout.after),
        source=replace(last.source, missing_seconds=missing, notes=notes),
    )


def _between(grids: Sequence[TokenGrid], border: tuple[int, ...]) -> Iterator[tuple[int, tuple[int, ...]]]:
    begin = 0
    for grid in grids:
        if begin and border:
            yield begin, border
        for place, ids in grid.layout.between:
            yield begin + place, ids
        begin += grid.tokens


def _added(counts: Sequence[dict[str, int]]) -> dict[str, int]:
    """The counts of all segments: sums, but of the largest community the largest."""
    names = [name for name in counts[0] if all(name in one for one in counts)]
    return {name: (max if name.startswith("largest") else sum)(one[name] for one in counts) for name in names}
