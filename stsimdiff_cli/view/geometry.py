"""Which pixels of a frame a cell of the token grid stands for.

When a video is encoded, its family states which part of a frame the grid covers, and the file records that
(TokenGrid.coverage). All cells have the same size in fractions of the frame, whatever its aspect ratio.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..records import TokenGrid


@dataclass(frozen=True)
class Geometry:
    """Where the grid lies on a frame, in fractions of the frame's width and height.

    left, top, right and bottom bound the cells that stand for pixels: `rows` x `columns` of equal size.
    """

    left: float
    top: float
    right: float
    bottom: float
    rows: int
    columns: int

    def cell(self, row: int, column: int, width: int, height: int) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 of a cell on a picture of width x height pixels; x1 and y1 are excluded."""
        x = [self.left + (self.right - self.left) * (column + side) / self.columns for side in (0, 1)]
        y = [self.top + (self.bottom - self.top) * (row + side) / self.rows for side in (0, 1)]
        x0, x1 = (min(width, round(value * width)) for value in x)
        y0, y1 = (min(height, round(value * height)) for value in y)
        return x0, y0, x1, y1


def geometry_of(grid: TokenGrid) -> Geometry:
    """The geometry of a video's token grid."""
    _, rows, columns = grid.shape
    covers = grid.coverage
    return Geometry(covers.left, covers.top, covers.right, covers.bottom, rows, columns - covers.blank_columns)
