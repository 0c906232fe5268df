"""What tokens of a prompt see, where that is not just all tokens before them; True in a mask is seen.

Two things may differ. Tokens of a group (`Family.mutual`) see each other in both directions: here f and g, two groups.

    tokens           a  f  f  b  g  g
    seen by 1st f    x  x  x
    seen by 1st g    x  x  x  x  x  x

And in some layers a token sees a window of the prompt, counted in original positions: here one of 5, where the tokens .
were dropped.

    tokens           a  b  .  .  c  .  d  e
    position         0  1  2  3  4  5  6  7
    seen by e                    x     x  x

transformers counts windows in the tokens that it is given, where e would see a and b too. So masks are made here.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

#: Entries of an attention mask that is made at once: rows of new tokens times columns of the cache.
MASK = 1 << 24


def together(seen: Tensor, groups: Tensor) -> Tensor:
    """What the last Q of K tokens attend to (Q, K), if it is `seen` without their `groups` (K,), -1 for none."""
    own = _last(groups, len(seen))
    return seen | ((groups == own) & (own >= 0))


def within(seen: Tensor, positions: Tensor, window: int) -> Tensor:
    """What the last Q of K tokens attend to (Q, K) in a window, if it is `seen` without one; `positions` are (K,)."""
    return seen & (positions > _last(positions, len(seen)) - window)


def _last(values: Tensor, rows: int) -> Tensor:
    """Those of the last tokens, as a column."""
    return values[len(values) - rows :, None]


def pieces(groups: Tensor, most: int, masks: bool) -> Iterator[tuple[int, int]]:
    """Where the pieces begin and end in which a prompt with `groups` (L,) is read, of `most` tokens each.

    Fewer, if `masks` are made for them and would be too large; more, where a group would be parted: all of it is read
    together.
    """
    length, end = len(groups), 0
    if masks:
        most = max(1, min(most, MASK // max(length, 1)))
    ends = _ends(groups)
    while end < length:
        begin, end = end, min(end + most, length)
        while end < (whole := max(ends[begin:end])):
            end = whole
        yield begin, end


def _ends(groups: Tensor) -> list[int]:
    """For each token of a prompt, one more than the last token of its group, or than itself."""
    numbers = groups.tolist()
    last = {number: place + 1 for place, number in enumerate(numbers)}
    return [place + 1 if number < 0 else last[number] for place, number in enumerate(numbers)]
