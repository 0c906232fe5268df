"""Which pixels of a frame a cell of the token grid stands for.

Known by family name, so that nothing of a model is loaded. Encoders resize a frame to their own size, whatever the
aspect ratio, and the grid covers all of it, with three exceptions: LLaVA-NeXT-Video cuts out the middle square;
LLaVA-Video's last column are newlines, which stand for no pixel; and where patches do not divide the encoder's side
the last few pixels are in no patch, or the last cells reach over the edge.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..records import TokenGrid

#: The part of the encoder's side that the cells cover, by family and cells along it (patch size 14 throughout):
#: 27 patches on 384 pixels, of which averages of 2 x 2 leave out one; 11 cells of 3 patches on 448 pixels.
_COVERED = {
    ("llava_onevision", 14): 27 * 14 / 384,
    ("llava_video", 14): 27 * 14 / 384,
    ("llava_video", 13): 26 * 14 / 384,
    ("smolvlm", 9): 27 * 14 / 384,
    ("nvila", 11): 33 * 14 / 448,
}
#: Columns at the right that are no pixels.
_NEWLINES = {"llava_video": 1}
_MIDDLE_SQUARE = ("llava_next_video",)


@dataclass(frozen=True)
class Geometry:
    """Where the grid lies on a frame, in fractions of the frame's width and height.

    left, top, right, bottom bound the cells that stand for pixels: `rows` x `columns`, all of the same size.
    """

    left: float
    top: float
    right: float
    bottom: float
    rows: int
    columns: int

    def cell(self, row: int, column: int, width: int, height: int) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 of a cell on a picture of width x height pixels; x1 and y1 are the first pixel behind."""
        x = [self.left + (self.right - self.left) * (column + side) / self.columns for side in (0, 1)]
        y = [self.top + (self.bottom - self.top) * (row + side) / self.rows for side in (0, 1)]
        x0, x1 = (min(width, round(value * width)) for value in x)
        y0, y1 = (min(height, round(value * height)) for value in y)
        return x0, y0, x1, y1


def geometry_of(grid: TokenGrid) -> Geometry:
    """The geometry of a video's token grid."""
    _, rows, columns = grid.shape
    family = grid.model.family
    columns -= _NEWLINES.get(family, 0)
    if family in _MIDDLE_SQUARE:
        width, height = grid.source.width, grid.source.height
        x, y = (max(0.0, (1 - min(width, height) / side) / 2) for side in (width, height))
        return Geometry(x, y, 1 - x, 1 - y, rows, columns)
    return Geometry(0.0, 0.0, _COVERED.get((family, columns), 1.0), _COVERED.get((family, rows), 1.0), rows, columns)
