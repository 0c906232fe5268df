"""The contact sheet: chosen slots with their kept tokens and communities, and a time line under them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import RequestError
from ..plotting import picture, shades
from ..registry import printable
from .geometry import Geometry, geometry_of
from .paint import Colour, canvas, kept_picture, region_colours, region_picture
from .timeline import draw_timeline
from .token_map import TokenMap

#: Slots on a sheet by default.
SLOTS = 8
#: The longer side of a frame that is read for a sheet, in pixels.
LONGEST = 640
#: The most that one side of a tile may be longer than the other; of videos beyond that, tiles are distorted.
NARROWEST = 8.0
_WIDTH = 8.0  # inches, as all lengths here
_MARGIN, _GAP, _NAME = 0.12, 0.08, 0.2
_HEAD = 0.5
_LINE = 2.35  # height of the time line with its labels
_DPI = 150


def chosen_slots(text: str | None, events: np.ndarray, marked: Sequence[int] = ()) -> list[int]:
    """The slots that `--slots` means: as many as a number says ("8"), or those listed ("0,5,10-12", "7-7").

    None means 8. `events` (T,) are the event tokens of each slot: of a number of slots, up to half are those with the
    most events, and the others are even ones; `marked` slots come before all of them. Raises RequestError for other
    texts, and for slots that the video does not have.
    """
    slots = len(events)
    hint = f"Write --slots 8 for 8 slots, or --slots 0,5,10-12; slots are 0 to {slots - 1}."
    if text is None or text.strip().isdigit():
        count = min(slots, SLOTS if text is None else int(text))
        if count == 0:
            raise RequestError("A picture of 0 slots shows nothing.", f"{hint} Slot 0 alone is 0-0.")
        return _told(events, count, marked)
    chosen: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise RequestError(f"--slots {text} is not a list of slots.", hint)
        chosen |= set(range(int(first), int(last if dash else first) + 1)) if int(last or first) < slots else {slots}
    if not chosen or max(chosen) >= slots:
        raise RequestError(f"--slots {text} names a slot that the video does not have.", hint)
    return sorted(chosen)


def _told(events: np.ndarray, count: int, marked: Sequence[int]) -> list[int]:
    """`count` slots of (T,): the marked ones; half of the others those with the most events, and even ones between.

    Ties go to the earlier slot. An even slot that is taken gives way to the free one nearest to it.
    """
    chosen = set(marked[:count])
    order = [int(slot) for slot in np.argsort(-events, kind="stable") if events[slot] > 0 and slot not in chosen]
    chosen |= set(order[: (count - len(chosen)) // 2])
    for place in np.linspace(0, len(events) - 1, count - len(chosen)).round():
        free = [slot for slot in range(len(events)) if slot not in chosen]
        chosen.add(min(free, key=lambda slot: (abs(slot - place), slot)))
    return sorted(chosen)


def tile_columns(count: int, aspect: float) -> int:
    """Tiles per row: each about 2 inches wide, less for portrait videos, and no row nearly empty."""
    most = 4 if aspect >= 0.8 else 8
    rows = -(-count // most)
    return -(-count // rows)


def save_sheet(
    path: Path, shown: Sequence[TokenMap], slots: list[int], frames: Mapping[int, np.ndarray | None]
) -> None:
    """Draw the slots of one file, or of two of the same video side by side, 1200 pixels wide.

    Slots missing in `frames` get a plain background. Of two files the kept tokens are shown, without communities, and
    their time lines share one scale.
    """
    source = shown[0].grid.source
    aspect = min(max(source.width / source.height, 1 / NARROWEST), NARROWEST)
    parts = [_Part(token_map, slots, aspect, len(shown)) for token_map in shown]
    height = _HEAD + max(part.height for part in parts) + _LINE
    top = max(float(token_map.kept.sum(axis=(1, 2)).max()) for token_map in shown)
    with picture(path, _WIDTH, height, few_colours=False) as figure:
        for number, part in enumerate(parts):
            part.draw(figure, number * _WIDTH / len(parts), height, frames, max(top, 1.0))


class _Part:
    """What a sheet shows of one file: all of the width, or half of it. Lengths are in inches."""

    def __init__(self, token_map: TokenMap, slots: list[int], aspect: float, files: int) -> None:
        self._map, self._slots, self._files = token_map, slots, files
        self._width = _WIDTH / files
        most = tile_columns(len(slots), aspect)
        self._columns = most if files == 1 else -(-most // files)
        widest = 2.6 if aspect >= 0.8 else 1.2
        self._wide = min((self._width - 2 * _MARGIN - _GAP * (self._columns - 1)) / self._columns, widest)
        self._high = self._wide / aspect
        self._colours = region_colours(token_map, slots) if token_map.regions and files == 1 else {}
        pictures = 2 if self._colours else 1
        self._block = _NAME + pictures * self._high + (pictures - 1) * 0.04 + _GAP
        self.height = -(-len(slots) // self._columns) * self._block

    def draw(
        self, figure: Any, left: float, height: float, frames: Mapping[int, np.ndarray | None], top: float
    ) -> None:
        """Title, tiles and time line, from `left` on, in a figure of `height`; `top` is the most tokens of a slot."""
        geometry = geometry_of(self._map.grid)
        _head(figure, self._map, left, height, bool(self._colours), self._files)
        for number, slot in enumerate(self._slots):
            x = left + _MARGIN + (number % self._columns) * (self._wide + _GAP)
            y = height - _HEAD - (number // self._columns) * self._block
            figure.text(x / _WIDTH, (y - 0.15) / height, _name(self._map, slot, geometry), fontsize=8)
            y -= _NAME
            size = (round(self._high * _DPI), round(self._wide * _DPI))
            shown = canvas(size, frames.get(slot))
            _put(figure, kept_picture(shown, self._map, slot, geometry), x, y, self._wide, self._high, height)
            if self._colours:
                under = region_picture(shown, self._map, slot, geometry, self._colours)
                below = _put(figure, under, x, y - self._high - 0.04, self._wide, self._high, height)
                _number_regions(below, self._map, slot, geometry, self._colours)
        at = ((left + 0.6) / _WIDTH, 0.58 / height, (self._width - 1.44) / _WIDTH, (_LINE - 1.0) / height)
        draw_timeline(figure.add_axes(at), self._map, self._slots, top)
        if self._map.change is None and self._files == 1:
            place = ((left + self._width - 0.08) / _WIDTH, 0.01)
            text = "change signal: not known, see --tokens"
            figure.text(*place, text, ha="right", fontsize=8, color=shades().caption)


def _name(token_map: TokenMap, slot: int, geometry: Geometry) -> str:
    """Number and time of a slot, and the number of kept tokens that show no pixels."""
    newlines = int(token_map.kept[slot, :, geometry.columns :].sum())
    return f"slot {slot}, {token_map.grid.seconds[slot]:.2f} s" + f" + {newlines} newlines" * (newlines > 0)


def _head(figure: Any, token_map: TokenMap, left: float, height: float, regions: bool, files: int) -> None:
    """The title: what the picture shows, in two lines; of two files the first line is their names."""
    source, model = token_map.grid.source, token_map.grid.model
    x = (left + _MARGIN) / _WIDTH
    shape = "{} slots of {} x {}".format(*token_map.grid.shape)
    first = f"{printable(source.name)} - {token_map.title()}"
    second = f"{printable(model.id)}, {shape}. Framed: kept; dimmed: dropped."
    if regions:
        second += " Below: the largest communities and their pieces."
    if files > 1:
        first, second = token_map.name, f"{token_map.title()}, {shape}"
    bold = {"fontsize": 10, "fontweight": "bold", "parse_math": False}
    figure.text(x, 1 - 0.2 / height, first, **bold)
    figure.text(x, 1 - 0.4 / height, second, fontsize=8, color=shades().caption, parse_math=False)


def _number_regions(axes: Any, token_map: TokenMap, slot: int, geometry: Geometry, colours: dict[int, Colour]) -> None:
    """Write each community's number into its cell nearest to the middle of the region."""
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=2, foreground="#222222")]
    for label in colours:
        cells = np.argwhere(token_map.whole[slot, :, : geometry.columns] == label)
        if len(cells):
            row, column = cells[((cells - cells.mean(axis=0)) ** 2).sum(axis=1).argmin()]
            x0, y0, x1, y1 = geometry.cell(row, column, 1000, 1000)
            axes.text(
                (x0 + x1) / 2000, 1 - (y0 + y1) / 2000, str(label), transform=axes.transAxes, ha="center", va="center",
                fontsize=8, color="white", fontweight="bold", path_effects=halo,
            )  # fmt: skip


def _put(figure: Any, image: np.ndarray, x: float, top: float, wide: float, high: float, height: float) -> Any:
    axes = figure.add_axes((x / _WIDTH, (top - high) / height, wide / _WIDTH, high / height))
    axes.imshow(image, aspect="auto", interpolation="nearest")
    axes.axis("off")
    return axes
