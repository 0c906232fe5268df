"""Draws one slot in the terminal, its cells as coloured blocks."""

from __future__ import annotations

import numpy as np

from .paint import KIND_COLOURS, Colour
from .token_map import DROPPED, KINDS, TokenMap

#: Grids of up to this many rows have cells one line high and two characters wide; taller ones have two rows per line.
TALL = 12
_DROPPED: Colour = (58, 61, 66)


def most_eventful_slot(token_map: TokenMap) -> int:
    """The slot with the most events; without events, the one with the largest change; else the one in the middle."""
    events = token_map.events()
    if events.any():
        return int(events.argmax())
    if token_map.change is not None and token_map.change.any():
        return int(token_map.change.argmax())
    return token_map.grid.shape[0] // 2


def block_lines(token_map: TokenMap, slot: int) -> list[str]:
    """The slot in rich's markup: two characters per cell, or a half block where the grid has many rows."""
    cells = token_map.kind[slot]
    if len(cells) <= TALL:
        return ["".join(f"[on {_rgb(kind)}]  [/]" for kind in row) for row in cells]
    lines = []
    for top in range(0, len(cells), 2):
        upper = cells[top]
        lower = cells[top + 1] if top + 1 < len(cells) else None
        lines.append("".join(_half(upper[x], None if lower is None else lower[x]) for x in range(len(upper))))
    return lines


def legend(token_map: TokenMap, slot: int) -> str:
    """The kinds of the slot in their colours, with counts."""
    kinds, counts = np.unique(token_map.kind[slot], return_counts=True)
    words = {DROPPED: "dropped", **KINDS}
    return "  ".join(
        f"[on {_rgb(kind)}]  [/] {count} {words[int(kind)]}" for kind, count in zip(kinds, counts, strict=True)
    )


def _half(upper: int, lower: int | None) -> str:
    under = "" if lower is None else f" on {_rgb(lower)}"
    return f"[{_rgb(upper)}{under}]▀[/]"


def _rgb(kind: int) -> str:
    return "rgb({},{},{})".format(*(_DROPPED if kind == DROPPED else KIND_COLOURS[int(kind)]))
