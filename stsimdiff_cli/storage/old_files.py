"""Files written before the header recorded which part of a frame the token grid covers (`coverage`).

Since then the family states it when a video is encoded (Family.coverage_of). For older files it follows from the
family's name, as it did when they were written. This is the only place where a file's family is known by name.
"""

from __future__ import annotations

from dataclasses import replace

from ..records import Coverage, TokenGrid

#: The fraction of the encoder's input that the cells cover, by family and cells per side, where it is not all of it
#: (patches of 14 pixels): 27 patches on 384 pixels, of which averages of 2 x 2 leave out one; 11 cells of 3 patches on
#: 448 pixels.
_COVERED = {
    ("llava_onevision", 14): 27 * 14 / 384,
    ("llava_video", 14): 27 * 14 / 384,
    ("llava_video", 13): 26 * 14 / 384,
    ("smolvlm", 9): 27 * 14 / 384,
    ("nvila", 11): 33 * 14 / 448,
}


def coverage_by_family(grid: TokenGrid) -> TokenGrid:
    """The grid with the coverage that files of its family had before 0.2."""
    family, (_, rows, columns) = grid.model.family, grid.shape
    if family == "llava_next_video":  # the middle square
        width, height = grid.source.width, grid.source.height
        x, y = (max(0.0, (1 - min(width, height) / side) / 2) for side in (width, height))
        return replace(grid, coverage=Coverage(x, y, 1 - x, 1 - y))
    blank = int(family == "llava_video")  # the newline column
    right, bottom = (_COVERED.get((family, cells), 1.0) for cells in (columns - blank, rows))
    return replace(grid, coverage=Coverage(right=right, bottom=bottom, blank_columns=blank))
