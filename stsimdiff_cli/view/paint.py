"""Draws the token grid over a frame: kept cells framed in colour, dropped ones dimmed; or communities as regions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..records import Kind
from .geometry import Geometry
from .token_map import DROPPED, TokenMap

Colour = tuple[int, int, int]

#: Yellow, red and orange as in the paper's Figure 4; white for methods that give no reason.
KIND_COLOURS: dict[int, Colour] = {
    int(Kind.REPRESENTATIVE): (255, 214, 10),
    int(Kind.EVENT): (225, 20, 45),
    int(Kind.REPRESENTATIVE | Kind.EVENT): (255, 128, 0),
    int(Kind.NONE): (240, 240, 240),
}
#: Colours of communities: those of Okabe and Ito that are not yellow, red or orange, and two more.
REGION_COLOURS: tuple[Colour, ...] = (
    (86, 180, 233), (0, 158, 115), (204, 121, 167), (0, 114, 178), (148, 203, 102), (136, 86, 200),
)  # fmt: skip
#: Brightness of the pieces of a community that was cut, in turn.
SHADES = (1.0, 0.62)
#: A dropped cell keeps this fraction of its brightness, and this fraction of it is grey.
DIM, GREY = 0.32, 0.75
#: The background without a frame.
BLANK: Colour = (120, 124, 130)


def canvas(shape: tuple[int, int], frame: np.ndarray | None) -> np.ndarray:
    """The frame resized to (height, width, 3) uint8 by nearest neighbour, or a plain background without a frame."""
    height, width = shape
    if frame is None:
        return np.full((height, width, 3), BLANK, np.uint8)
    rows = np.arange(height) * frame.shape[0] // height
    columns = np.arange(width) * frame.shape[1] // width
    return frame[rows][:, columns]


def kept_picture(picture: np.ndarray, token_map: TokenMap, slot: int, geometry: Geometry) -> np.ndarray:
    """A slot's cells over its picture (height, width, 3) uint8: kept cells framed in the colour of their kind.

    Everything else is dimmed, including pixels that no token stands for.
    """
    height, width = picture.shape[:2]
    out = _dimmed(picture)
    thick = border(height, width, geometry)
    for row, column in np.argwhere(token_map.kind[slot, :, : geometry.columns] != DROPPED):
        x0, y0, x1, y1 = geometry.cell(row, column, width, height)
        out[y0:y1, x0:x1] = picture[y0:y1, x0:x1]
        colour = KIND_COLOURS[int(token_map.kind[slot, row, column])]
        frame_cell(out, (x0, y0, x1, y1), colour, thick)
    return out


def border(height: int, width: int, geometry: Geometry) -> int:
    """The thickness of a cell's frame in pixels: a sixth of its shorter side, 1 to 4."""
    side = min(
        width * (geometry.right - geometry.left) / geometry.columns,
        height * (geometry.bottom - geometry.top) / geometry.rows,
    )
    return int(min(4, max(1, round(side / 6))))


def region_colours(token_map: TokenMap, slots: Sequence[int], count: int = 3) -> dict[int, Colour]:
    """A colour for each of the `count` largest whole communities of each slot; no two in a slot have the same."""
    shown = [token_map.largest(slot, count) for slot in slots]
    colours: dict[int, Colour] = {}
    for labels in shown:
        for label in labels:
            if label not in colours:
                near = {colours[other] for others in shown if label in others for other in others if other in colours}
                free = [colour for colour in REGION_COLOURS if colour not in near] or list(REGION_COLOURS)
                colours[label] = free[len(colours) % len(free)]
    return colours


def region_picture(
    picture: np.ndarray, token_map: TokenMap, slot: int, geometry: Geometry, colours: dict[int, Colour]
) -> np.ndarray:
    """The communities in `colours` as regions over the picture in grey, with lines at their borders.

    Pieces of one community have its colour, every second one in a darker shade, and dark lines between them.
    """
    height, width = picture.shape[:2]
    grey = picture.mean(axis=2, keepdims=True).repeat(3, axis=2) * 0.55 + 40
    labels, whole = token_map.community[slot], token_map.whole[slot]
    for row in range(geometry.rows):
        for column in range(geometry.columns):
            colour = colours.get(int(whole[row, column]))
            if colour is None:
                continue
            x0, y0, x1, y1 = geometry.cell(row, column, width, height)
            shade = SHADES[token_map.piece[labels[row, column]] % len(SHADES)]
            grey[y0:y1, x0:x1] = 0.4 * grey[y0:y1, x0:x1] + 0.6 * shade * np.array(colour)
            if column + 1 < geometry.columns and labels[row, column + 1] != labels[row, column]:
                grey[y0:y1, max(x0, x1 - 1) : x1] = _line(whole[row, column + 1] == whole[row, column])
            if row + 1 < geometry.rows and labels[row + 1, column] != labels[row, column]:
                grey[max(y0, y1 - 1) : y1, x0:x1] = _line(whole[row + 1, column] == whole[row, column])
    return grey.clip(0, 255).astype(np.uint8)


def _line(pieces: bool) -> int:
    """The brightness of a line: dark between pieces of one community, white around it."""
    return 40 if pieces else 255


def frame_cell(out: np.ndarray, cell: tuple[int, int, int, int], colour: Colour, thick: int) -> None:
    """Draw a frame inside a cell, in place."""
    x0, y0, x1, y1 = cell
    out[y0 : min(y1, y0 + thick), x0:x1] = colour
    out[max(y0, y1 - thick) : y1, x0:x1] = colour
    out[y0:y1, x0 : min(x1, x0 + thick)] = colour
    out[y0:y1, max(x0, x1 - thick) : x1] = colour


def _dimmed(picture: np.ndarray) -> np.ndarray:
    grey = picture.mean(axis=2, keepdims=True)
    out: np.ndarray = (DIM * (GREY * grey + (1 - GREY) * picture)).astype(np.uint8)
    return out
