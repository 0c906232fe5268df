"""How a picture must be turned before it is shown.

A file may store pictures lying on their side with a display matrix that says how to put them up. FFmpeg's
convention, with columns p and rows q counted to the right and down: pixel (p, q) is shown at
(X, Y) = (a p + c q, b p + d q), shifted so that the picture begins at (0, 0).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from av.sidedata.sidedata import Type as SideDataType


@dataclass(frozen=True)
class Orientation:
    """First swap rows and columns, then reverse rows, then reverse columns."""

    swap: bool = False
    reverse_rows: bool = False
    reverse_columns: bool = False

    @property
    def mirrored(self) -> bool:
        """True if no rotation gives the same picture."""
        return (self.swap + self.reverse_rows + self.reverse_columns) % 2 == 1

    @property
    def degrees(self) -> int:
        """Clockwise rotation: 0, 90, 180 or 270 (of the picture before mirroring left and right, if mirrored)."""
        if self.swap:
            return 270 if self.reverse_rows else 90
        return 180 if self.reverse_rows else 0

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The shown (width, height) of a stored picture."""
        return (height, width) if self.swap else (width, height)

    def apply(self, picture: np.ndarray) -> np.ndarray:
        """The shown view (H, W, 3) of a stored picture; no pixel is copied."""
        if self.swap:
            picture = picture.swapaxes(0, 1)
        return picture[:: -1 if self.reverse_rows else 1, :: -1 if self.reverse_columns else 1]


UPRIGHT = Orientation()


def orientation_of(frame: Any) -> Orientation:
    """The orientation that a decoded frame asks for; angles between are taken to the nearest right angle."""
    side_data = frame.side_data.get(SideDataType.DISPLAYMATRIX)
    if side_data is None:
        return UPRIGHT
    a, b, _, c, d = struct.unpack("=9i", bytes(side_data))[:5]
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(True, reverse_rows=b < 0, reverse_columns=c < 0)
    return Orientation(False, reverse_rows=d < 0, reverse_columns=a < 0)
