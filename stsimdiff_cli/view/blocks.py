"""A glance in the terminal: a slot's cells as coloured blocks."""

from __future__ import annotations

import numpy as np

from .facts import DROPPED, KINDS, Facts
from .paint import KIND_COLOURS, Colour

#: Rows up to which a cell is a whole line high and two letters wide; more rows share a line by twos.
TALL = 12
_DROPPED: Colour = (58, 61, 66)


def telling_slot(facts: Facts) -> int:
    """The slot with most events; without events that with the largest change; else the one in the middle."""
    events = facts.events()
    if events.any():
        return int(events.argmax())
    if facts.change is not None and facts.change.any():
        return int(facts.change.argmax())
    return facts.grid.shape[0] // 2


def block_lines(facts: Facts, slot: int) -> list[str]:
    """The slot in rich's markup: two letters a cell, or a half block where the grid has many rows."""
    cells = facts.kind[slot]
    if len(cells) <= TALL:
        return ["".join(f"[on {_rgb(kind)}]  [/]" for kind in row) for row in cells]
    lines = []
    for top in range(0, len(cells), 2):
        upper = cells[top]
        lower = cells[top + 1] if top + 1 < len(cells) else None
        lines.append("".join(_half(upper[x], None if lower is None else lower[x]) for x in range(len(upper))))
    return lines


def legend(facts: Facts, slot: int) -> str:
    """The kinds in the slot in their colours, with counts."""
    kinds, counts = np.unique(facts.kind[slot], return_counts=True)
    words = {DROPPED: "dropped", **KINDS}
    return "  ".join(
        f"[on {_rgb(kind)}]  [/] {count} {words[int(kind)]}" for kind, count in zip(kinds, counts, strict=True)
    )


def _half(upper: int, lower: int | None) -> str:
    under = "" if lower is None else f" on {_rgb(lower)}"
    return f"[{_rgb(upper)}{under}]▀[/]"


def _rgb(kind: int) -> str:
    return "rgb({},{},{})".format(*(_DROPPED if kind == DROPPED else KIND_COLOURS[int(kind)]))
