"""Writes a folder of segments, one segment after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import RequestError
from .atomic import growing_folder
from .formats import COMPRESSED
from .segment_index import FORMAT, Index, Recording, Segment, is_segments, read_index, write_index
from .stored_video import StoredVideo

_KINDS = {False: "all tokens", True: "kept tokens"}


class SegmentWriter:
    """A folder that gets more segments. `index` is None as long as it has none."""

    def __init__(self, folder: Path, kind: str, model: str, settings: dict[str, str]) -> None:
        self.folder = folder
        self._kind, self._model, self._settings = kind, model, settings
        self.index: Index | None = self._found()

    def _found(self) -> Index | None:
        """The index that is there; RequestError if its segments were made in another way, or for other files."""
        if not is_segments(self.folder):
            others = sorted(path.name for path in self.folder.iterdir() if path.suffix not in (".safetensors", ".tmp"))
            if others:
                raise RequestError(
                    f"{self.folder} holds other files, such as {others[0]}.", "Name a new folder for the segments."
                )
            return None
        index = read_index(self.folder)
        if index.kind != self._kind:
            there, wanted = (_KINDS[kind == COMPRESSED] for kind in (index.kind, self._kind))
            raise RequestError(f"{self.folder} holds {there}, not {wanted}.", "Name another folder.")
        if index.model != self._model:
            raise RequestError(
                f"The segments of {self.folder} were made by another model.", "Name that model, or another folder."
            )
        for name in sorted(index.settings.keys() | self._settings.keys()):
            there, wanted = index.settings.get(name, "none"), self._settings.get(name, "none")
            if there != wanted:
                raise RequestError(
                    f"The segments of {self.folder} were made with {name} {there}, not {wanted}.",
                    "Give the same options as before, or another folder.",
                )
        return index

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Those that the folder has."""
        return () if self.index is None else self.index.segments

    @property
    def next_path(self) -> Path:
        """Where the next segment is to be written, whatever is there."""
        return self.folder / f"{len(self.segments):06d}.safetensors"

    def add(
        self,
        border: tuple[int, ...],
        *,
        frames: int = 0,
        sources: tuple[str, ...] = (),
        recording: Recording | None = None,
        complete: bool = False,
    ) -> Segment:
        """Name the file at `next_path` in the index: from now on it counts. The arguments are entries of the index."""
        file = StoredVideo(self.next_path)
        grid = file.grid
        segment = Segment(
            self.next_path.name, grid.shape[0], file.counts.get("kept", grid.tokens), _labels(file),
            grid.seconds[0], grid.seconds[-1], file.bytes, file.digest, frames, sources,
        )  # fmt: skip
        index = self.index or Index(
            FORMAT, self._kind, self._model, (*grid.shape[1:], grid.width), border, self._settings
        )
        if (*grid.shape[1:], grid.width) != index.shape:
            raise RequestError(
                f"The frames are now {grid.shape[1]} x {grid.shape[2]} tokens of width {grid.width}, and were "
                "{} x {} of width {}.".format(*index.shape),
                "Continue in another folder.",
            )
        self._write(replace(index, segments=(*index.segments, segment), recording=recording, complete=complete))
        return segment

    def finish(self, **changes: Any) -> None:
        """Change entries of the index, if it is there."""
        if self.index is not None and replace(self.index, **changes) != self.index:
            self._write(replace(self.index, **changes))

    def _write(self, index: Index) -> None:
        write_index(self.folder, index)
        self.index = index


@contextmanager
def open_segments(folder: Path, kind: str, model: str, settings: dict[str, str]) -> Iterator[SegmentWriter]:
    """A folder to write segments to, which no other process does at the same time. It may be new."""
    with growing_folder(folder):
        yield SegmentWriter(folder, kind, model, settings)


def _labels(file: StoredVideo) -> int:
    """The number of communities of a compressed file."""
    names = [name for name in ("community", "regions") if name in file.names()]
    return max((int(file.array(name).max()) + 1 for name in names), default=0)
