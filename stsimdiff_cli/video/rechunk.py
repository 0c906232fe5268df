"""Frames in chunks of one size, whatever the chunks they come in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from ..records import Frames


def rechunked(parts: Iterable[Frames], size: int, missing: list[float]) -> Iterator[Frames]:
    """The same frames in chunks of exactly `size` (but the last), whatever could not be decoded; notes what is missing.

    So that a slot of several frames is never cut in two.
    """
    held: Frames | None = None
    for part in parts:
        missing += part.missing_seconds
        if not part.seconds:
            continue
        held = part if held is None else Frames(torch.cat([held.pixels, part.pixels]), held.seconds + part.seconds)
        while len(held.seconds) >= size:
            yield Frames(held.pixels[:size], held.seconds[:size])
            held = Frames(held.pixels[size:], held.seconds[size:])
    if held is not None and held.seconds:
        yield held
