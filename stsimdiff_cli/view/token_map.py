"""What became of every token of a video: all that the pictures show, as numbers in one plain record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileFormatError, RequestError
from ..records import Kind, TokenGrid
from ..registry import printable
from ..storage.formats import REMAKE
from ..storage.reading import open_stored
from ..storage.stores import AnyPath
from ..storage.stretch import Stretch

#: Marks a cell whose token was dropped, next to the values of Kind.
DROPPED = -1
#: Marks a cell whose community is not known.
UNKNOWN = -1
#: Names of the values of Kind.
KINDS = {
    int(Kind.REPRESENTATIVE): "representative",
    int(Kind.EVENT): "event",
    int(Kind.REPRESENTATIVE | Kind.EVENT): "both",
    int(Kind.NONE): "kept",
}


@dataclass(frozen=True, eq=False)
class TokenMap:
    """What became of every cell of the grid (T, H, W) in one compressed file, and the signals over time."""

    name: str
    grid: TokenGrid
    method: dict[str, Any]
    kind: np.ndarray  # (T, H, W) int8: bits of Kind, or DROPPED
    community: np.ndarray  # (T, H, W) int32: of every token if `regions`, else of kept tokens; UNKNOWN elsewhere
    importance: np.ndarray | None  # (T, H, W) float32, NaN where dropped; None if nothing was pruned by importance
    centrality: np.ndarray | None  # (T, H, W) float32, NaN where dropped; None if the file has none
    change: np.ndarray | None  # (T,) float32, 0 in the first slot; None if the file has none
    regions: bool  # whether the communities of dropped tokens are known
    whole_of: np.ndarray | None = None  # (C,) int32: the lowest number of the pieces of each one's community, if known
    notes: tuple[str, ...] = ()  # what a user should know about the file, in sentences
    marked: tuple[int, ...] = ()  # slots that the user wants to find, ascending

    @property
    def kept(self) -> np.ndarray:
        """(T, H, W) bool: whether each token was kept."""
        return self.kind != DROPPED

    def per_slot(self) -> dict[int, np.ndarray]:
        """The number of kept tokens per slot, for each kind that occurs: kind -> (T,)."""
        counts = {kind: (self.kind == kind).sum(axis=(1, 2)) for kind in KINDS}
        return {kind: count for kind, count in counts.items() if count.any()}

    def events(self) -> np.ndarray:
        """(T,) kept event tokens per slot, including those that are representatives too."""
        return (self.kept & (self.kind & int(Kind.EVENT) > 0)).sum(axis=(1, 2))

    @cached_property
    def whole(self) -> np.ndarray:
        """(T, H, W) the community of each cell, where the pieces of one that was cut have one number, if known."""
        return self.community if self.whole_of is None else self.whole_of[self.community]

    @cached_property
    def piece(self) -> np.ndarray:
        """(C,) which piece of its community each one is, from 0 on; all 0 where that is not known."""
        if self.whole_of is None:
            return np.zeros(max(0, int(self.community.max()) + 1), np.int64)
        order = np.argsort(self.whole_of, kind="stable")
        _, first, counts = np.unique(self.whole_of[order], return_index=True, return_counts=True)
        piece = np.empty(len(order), np.int64)
        piece[order] = np.arange(len(order)) - np.repeat(first, counts)
        return piece

    def largest(self, slot: int, count: int) -> list[int]:
        """The `count` whole communities with the most cells in a slot, at least two; ties go to the lower number."""
        cells = self.whole[slot]
        labels, sizes = np.unique(cells[cells != UNKNOWN], return_counts=True)
        order = np.argsort(-sizes, kind="stable")[:count]
        return [int(labels[i]) for i in order if sizes[i] > 1]

    def title(self) -> str:
        """Method, ratio and counts in one line."""
        return (
            f"{printable(self.method['name'])}, ratio {self.method['ratio']}: "
            f"{int(self.kept.sum())} of {self.grid.tokens} tokens kept"
        )


def read_token_map(path: AnyPath, tokens: Path | None = None) -> TokenMap:
    """The token map of a compressed file. `tokens`, its tokens file, supplies the change signal if it has none.

    Raises RequestError for a file that is not compressed, or tokens of another video; FileFormatError for an edited
    file.
    """
    stored = open_stored(path)
    if not stored.compressed:
        raise RequestError(
            f"{path} holds all tokens: nothing was chosen yet.", f"stsimdiff compress {path} -o OUT --ratio 0.3"
        )
    grid, names = stored.grid, set(stored.names())
    index = stored.array("index")

    def spread(name: str, empty: float, dtype: Any) -> np.ndarray:
        """A tensor over the kept tokens (M,) laid out on the grid (T, H, W)."""
        cells = np.full(grid.tokens, empty, dtype)
        cells[index] = stored.array(name)
        return cells.reshape(grid.shape)

    regions = "regions" in names
    community = stored.array("regions") if regions else spread("community", UNKNOWN, np.int32)
    whole_of = stored.array("whole_of") if regions and "whole_of" in names else None
    if whole_of is not None and (community.min() < 0 or community.max() >= len(whole_of)):
        raise FileFormatError(f"{path} was edited: whole_of does not fit regions.", REMAKE)
    return TokenMap(
        name=printable(path.name),
        grid=grid,
        method=stored.method,
        kind=spread("kind", DROPPED, np.int8),
        community=community,
        importance=spread("importance", np.nan, np.float32) if "importance" in names else None,
        centrality=spread("centrality", np.nan, np.float32) if "centrality" in names else None,
        change=stored.array("change") if "change" in names else _change_from(tokens, grid),
        regions=regions,
        whole_of=whole_of,
        notes=stored.notes,
    )


def same_video(first: TokenMap, second: TokenMap) -> None:
    """Raise RequestError if two files cannot be compared: different videos, times or grids."""
    one, two = first.grid, second.grid
    if one.source.sha256 != two.source.sha256:
        raise RequestError(
            f"{first.name} and {second.name} are of different videos: {printable(one.source.name)} and "
            f"{printable(two.source.name)}.",
            "Compare two compressed files of the same video.",
        )
    if one.shape != two.shape or one.seconds != two.seconds:
        raise RequestError(
            f"{first.name} and {second.name} have different grids: {_sides(one)} and {_sides(two)}.",
            "Compress the same tokens file twice.",
        )


def with_marks(shown: Sequence[TokenMap], seconds: Sequence[float]) -> list[TokenMap]:
    """Files of the same video with marks at the slots that are shown at these times.

    Raises RequestError for a time at which no slot is shown.
    """
    grid = shown[0].grid
    marked = {Stretch(second, second).slots(grid)[-1] for second in seconds}
    return [replace(each, marked=tuple(sorted(marked))) for each in shown]


def with_one_change(shown: Sequence[TokenMap]) -> list[TokenMap]:
    """Files of the same video, of which those that lack the change signal get that of another, if one model made both.

    The signal is one of the tokens before any was dropped, so it is the same for all.
    """
    known = {each.grid.model.fingerprint: each.change for each in shown if each.change is not None}
    return [
        replace(each, change=each.change if each.change is not None else known.get(each.grid.model.fingerprint))
        for each in shown
    ]


def _sides(grid: TokenGrid) -> str:
    return "{} slots of {} x {}".format(*grid.shape) + f" from {grid.seconds[0]:.2f} to {grid.seconds[-1]:.2f} s"


def _change_from(path: Path | None, grid: TokenGrid) -> np.ndarray | None:
    """The change signal (T,) of a tokens file, which must be of the same tokens; None without a file."""
    if path is None:
        return None
    from ..graph.edges import change_signal, edge_weights

    stored = open_stored(path)
    tokens = stored.tokens(in_memory=False)
    other = stored.grid
    if (other.source.sha256, other.model.fingerprint, other.shape, other.seconds) != (
        grid.source.sha256, grid.model.fingerprint, grid.shape, grid.seconds,
    ):  # fmt: skip
        raise RequestError(f"{path} holds the tokens of another video or grid.", "Give the file that was compressed.")
    signal: np.ndarray = change_signal(edge_weights(tokens.features)).numpy()
    return signal
