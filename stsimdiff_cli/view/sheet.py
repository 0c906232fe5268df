"""The contact sheet: chosen slots with their kept tokens and communities, and a time line under them."""

from __future__ import annotations

from collections.abc import Mapping
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
_LINE = 2.35  # height of the time line with its labels
_DPI = 150


def chosen_slots(text: str | None, slots: int) -> list[int]:
    """The slots that `--slots` means: evenly spaced ones by count ("8"), or by number ("0,5,10-12", "7-7").

    None means the default. Raises RequestError for other texts, and for slots that the video does not have.
    """
    hint = f"Write --slots 8 for 8 evenly spaced slots, or --slots 0,5,10-12; slots are 0 to {slots - 1}."
    if text is None or text.strip().isdigit():
        count = min(slots, SLOTS if text is None else int(text))
        if count == 0:
            raise RequestError("A picture of 0 slots shows nothing.", f"{hint} Slot 0 alone is 0-0.")
        return [int(slot) for slot in np.linspace(0, slots - 1, count).round()]
    chosen: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise RequestError(f"--slots {text} is not a list of slots.", hint)
        chosen |= set(range(int(first), int(last if dash else first) + 1)) if int(last or first) < slots else {slots}
    if not chosen or max(chosen) >= slots:
        raise RequestError(f"--slots {text} names a slot that the video does not have.", hint)
    return sorted(chosen)


def tile_columns(count: int, aspect: float) -> int:
    """Tiles per row: each about 2 inches wide, less for portrait videos, and no row nearly empty."""
    most = 4 if aspect >= 0.8 else 8
    rows = -(-count // most)
    return -(-count // rows)


def save_sheet(path: Path, token_map: TokenMap, slots: list[int], frames: Mapping[int, np.ndarray | None]) -> None:
    """Draw the slots 1200 pixels wide. Slots missing in `frames` get a plain background."""
    source = token_map.grid.source
    aspect = min(max(source.width / source.height, 1 / NARROWEST), NARROWEST)
    columns = tile_columns(len(slots), aspect)
    rows = -(-len(slots) // columns)
    wide = min((_WIDTH - 2 * _MARGIN - _GAP * (columns - 1)) / columns, 2.6 if aspect >= 0.8 else 1.2)
    high = wide / aspect
    colours = region_colours(token_map, slots) if token_map.regions else {}
    parts = 2 if colours else 1
    block = _NAME + parts * high + (parts - 1) * 0.04 + _GAP
    head = 0.5
    height = head + rows * block + _LINE
    geometry = geometry_of(token_map.grid)
    with picture(path, _WIDTH, height, few_colours=False) as figure:
        _head(figure, token_map, height, bool(colours))
        for number, slot in enumerate(slots):
            x = _MARGIN + (number % columns) * (wide + _GAP)
            y = height - head - (number // columns) * block
            figure.text(x / _WIDTH, (y - 0.15) / height, _name(token_map, slot, geometry), fontsize=8)
            y -= _NAME
            size = (round(high * _DPI), round(wide * _DPI))
            shown = canvas(size, frames.get(slot))
            _put(figure, kept_picture(shown, token_map, slot, geometry), x, y, wide, high, height)
            if colours:
                under = region_picture(shown, token_map, slot, geometry, colours)
                below = _put(figure, under, x, y - high - 0.04, wide, high, height)
                _number_regions(below, token_map, slot, geometry, colours)
        axes = figure.add_axes((0.075, 0.58 / height, 0.82, (_LINE - 1.0) / height))
        draw_timeline(axes, token_map, slots)
        if token_map.change is None:
            figure.text(
                0.99, 0.01, "change signal: not known, see --tokens", ha="right", fontsize=8, color=shades().caption
            )


def _name(token_map: TokenMap, slot: int, geometry: Geometry) -> str:
    """Number and time of a slot, and the number of kept tokens that show no pixels."""
    newlines = int(token_map.kept[slot, :, geometry.columns :].sum())
    return f"slot {slot}, {token_map.grid.seconds[slot]:.2f} s" + f" + {newlines} newlines" * (newlines > 0)


def _head(figure: Any, token_map: TokenMap, height: float, regions: bool) -> None:
    """The title: what the picture shows, in two lines."""
    source, model = token_map.grid.source, token_map.grid.model
    figure.text(
        _MARGIN / _WIDTH, 1 - 0.2 / height, f"{printable(source.name)} - {token_map.title()}", fontsize=10,
        fontweight="bold", parse_math=False,
    )  # fmt: skip
    shape = "{} slots of {} x {}".format(*token_map.grid.shape)
    text = f"{printable(model.id)}, {shape}. Framed: kept; dimmed: dropped."
    if regions:
        text += " Below: the largest communities, by their numbers."
    figure.text(_MARGIN / _WIDTH, 1 - 0.4 / height, text, fontsize=8, color=shades().caption, parse_math=False)


def _number_regions(axes: Any, token_map: TokenMap, slot: int, geometry: Geometry, colours: dict[int, Colour]) -> None:
    """Write each community's number into its cell nearest to the middle of the region."""
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=2, foreground="#222222")]
    for label in colours:
        cells = np.argwhere(token_map.community[slot, :, : geometry.columns] == label)
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
