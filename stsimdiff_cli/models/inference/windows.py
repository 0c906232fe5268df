"""Layers in which a token sees a window of the prompt, counted in original positions.

A window of 5, where the tokens . were dropped; the last token sees what is marked:

    tokens           a  b  .  .  c  .  d  e
    position         0  1  2  3  4  5  6  7
    seen by e                    x     x  x

transformers counts windows in the tokens that it is given, where e would see a and b too. So masks are made here.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

#: Entries of an attention mask that is made at once: rows of new tokens times columns of the cache.
MASK = 1 << 24


def within(seen: Tensor, positions: Tensor, window: int, visual: Tensor | None = None) -> Tensor:
    """What the last Q of K tokens attend to (Q, K) in a window, if it is `seen` without one; `positions` are (K,).

    With `visual` (K,), as in Prompt, the visual tokens that stand side by side also see each other forwards.
    """
    rows = len(seen)
    if visual is not None:
        runs = _runs(visual)
        own = runs[len(runs) - rows :, None]
        seen = seen | ((runs == own) & (own >= 0))
    return seen & (positions > positions[len(positions) - rows :, None] - window)


def _runs(visual: Tensor) -> Tensor:
    """The number of the run of visual tokens that each token (L,) is in; -1 for text."""
    inside = visual >= 0
    first = inside & ~torch.cat([inside.new_zeros(1), inside[:-1]])
    return (first.cumsum(0) - 1).masked_fill(~inside, -1)


def pieces(visual: Tensor, most: int, masks: bool = False, mutual: bool = False) -> Iterator[tuple[int, int]]:
    """Where the pieces begin and end in which a prompt with `visual` (L,) is read, of `most` tokens each.

    Fewer, if `masks` are made for them and would be too large; more, if visual tokens that stand side by side see each
    other (`mutual`): they are read together.
    """
    length, end = len(visual), 0
    if masks:
        most = max(1, min(most, MASK // max(length, 1)))
    inside = (visual >= 0).tolist()
    while end < length:
        begin, end = end, min(end + most, length)
        while mutual and end < length and inside[end - 1] and inside[end]:
            end += 1
        yield begin, end
