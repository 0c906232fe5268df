"""How many bytes a file may have: as a whole, or for each minute of video."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from ..errors import RequestError
from ..records import TokenGrid

_UNITS = {"": 1, "b": 1, **{f"{p}b": 1000**n for n, p in enumerate("kmgt", 1)}}
_UNITS |= {f"{p}ib": 1024**n for n, p in enumerate("kmgt", 1)}


@dataclass(frozen=True)
class ByteBudget:
    """Bytes of a file, header included; or of a file for each minute of the video that was encoded."""

    bytes: int
    a_minute: bool = False

    def of(self, grid: TokenGrid) -> int:
        """The bytes that the file of a video may have."""
        return int(Decimal(self.bytes) * Decimal(covered_seconds(grid)) / 60) if self.a_minute else self.bytes

    def __str__(self) -> str:
        return f"{self.bytes} bytes" + " a minute" * self.a_minute


def covered_seconds(grid: TokenGrid) -> float:
    """The seconds of video that the slots stand for: each lasts until the next, the last as long as the others."""
    count, first, last = len(grid.seconds), grid.seconds[0], grid.seconds[-1]
    return grid.source.seconds if count == 1 else (last - first) * count / (count - 1)


def parse_bytes(text: str, a_minute: bool = False) -> ByteBudget:
    """`2MB`, `1.5 MiB`, `300000`: units of 1000, or of 1024 with an i. RequestError for anything else."""
    found = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([a-zA-Z]{0,3})\s*", text)
    unit = None if found is None else _UNITS.get(found[2].lower())
    if found is None or unit is None:
        raise RequestError(f"{text!r} is not a number of bytes.", "Write e.g. 2MB, 500kB or 1.5MiB.")
    size = int(Decimal(found[1]) * unit)
    if not size:
        raise RequestError(f"{text} is less than one byte.", "Write e.g. 2MB.")
    return ByteBudget(size, a_minute)
