"""When an answer's slots were: a line of blocks over time, and the times of the highest."""

from __future__ import annotations

from collections.abc import Sequence

from .inspect import bars

#: Times that are named, and columns of the line at most.
NAMED, WIDTH = 3, 60


def highest(shares: Sequence[float], seconds: Sequence[float]) -> list[dict[str, float]]:
    """The slots with the largest shares, the largest first: their times and shares."""
    order = sorted(range(len(shares)), key=lambda slot: (-shares[slot], slot))[:NAMED]
    return [{"at_seconds": seconds[slot], "share": shares[slot]} for slot in order]


def timeline(shares: Sequence[float], seconds: Sequence[float]) -> str:
    """One line: blocks from the first slot to the last, several slots a block if there are many; and the times."""
    from ..storage.stretch import clock

    step = -(-len(shares) // WIDTH)
    columns = [sum(shares[begin : begin + step]) for begin in range(0, len(shares), step)]
    most = max(columns)
    blocks = bars([round(1000 * column / most) for column in columns], 1000)
    named = ", ".join(clock(slot["at_seconds"]) for slot in highest(shares, seconds))
    return f"{blocks} {named}"
