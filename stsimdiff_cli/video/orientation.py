"""How a stored picture must be rotated or mirrored before it is shown.

A file may store pictures on their side, with a display matrix that says how to turn them. FFmpeg's convention, with
columns p counted to the right and rows q counted down: pixel (p, q) is shown at (X, Y) = (a p + c q, b p + d q),
shifted so that the picture begins at (0, 0).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from av.sidedata.sidedata import Type as SideDataType


@dataclass(frozen=True)
class Orientation:
    """Swap rows and columns first, then reverse the rows, then the columns."""

    swap: bool = False
    reverse_rows: bool = False
    reverse_columns: bool = False

    @property
    def mirrored(self) -> bool:
        """True if the picture is mirrored: no rotation alone gives the same."""
        return (self.swap + self.reverse_rows + self.reverse_columns) % 2 == 1

    @property
    def degrees(self) -> int:
        """Clockwise rotation: 0, 90, 180 or 270 (before mirroring left and right, if mirrored)."""
        if self.swap:
            return 270 if self.reverse_rows else 90
        return 180 if self.reverse_rows else 0

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The (width, height) at which a stored picture is shown."""
        return (height, width) if self.swap else (width, height)

    def apply(self, picture: np.ndarray) -> np.ndarray:
        """A stored picture (height, width, 3) as it is shown; a view, no pixel is copied."""
        if self.swap:
            picture = picture.swapaxes(0, 1)
        return picture[:: -1 if self.reverse_rows else 1, :: -1 if self.reverse_columns else 1]


UPRIGHT = Orientation()


def orientation_of(frame: Any) -> Orientation:
    """The orientation that a decoded frame asks for; other angles are rounded to the nearest right angle."""
    side_data = frame.side_data.get(SideDataType.DISPLAYMATRIX)
    if side_data is None:
        return UPRIGHT
    a, b, _, c, d = struct.unpack("=9i", bytes(side_data))[:5]
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(True, reverse_rows=b < 0, reverse_columns=c < 0)
    return Orientation(False, reverse_rows=d < 0, reverse_columns=a < 0)
