"""Regroups frames into chunks of one size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from ..records import Frames


def rechunked(parts: Iterable[Frames], size: int, missing: list[float]) -> Iterator[Frames]:
    """The same frames in chunks of exactly `size`, except for the last, even if some frames could not be decoded.

    With a size that is a multiple of the frames per slot, no slot is cut in two. The times of missing frames are
    appended to `missing`.
    """
    pending: Frames | None = None
    for part in parts:
        missing += part.missing_seconds
        if not part.seconds:
            continue
        pending = (
            part
            if pending is None
            else Frames(torch.cat([pending.pixels, part.pixels]), pending.seconds + part.seconds)
        )
        while len(pending.seconds) >= size:
            yield Frames(pending.pixels[:size], pending.seconds[:size])
            left = pending.seconds[size:]
            pending = Frames(pending.pixels[size:], left) if left else None  # an empty rest would hold its chunk
            if pending is None:
                break
    if pending is not None:
        yield pending
