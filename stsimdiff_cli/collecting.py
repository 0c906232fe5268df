"""What encoding needs around the encoder: frames in chunks of one size, and a place for the slots that come out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from .records import Frames, TokenGrid, VideoTokens


class Collected:
    """The slots of a video, collected in memory; the same verbs as store.GrowingTokens."""

    def begin(self, grid: TokenGrid, frames: int, first: Mapping[str, Tensor]) -> None:  # noqa: ARG002
        """Room for all slots of `grid`; `first` are tensors of the first slots."""
        self.held = {
            name: torch.empty((grid.shape[0], *tensor.shape[1:]), dtype=tensor.dtype) for name, tensor in first.items()
        }
        self.slots = 0

    def append(self, tensors: Mapping[str, Tensor]) -> None:
        """The next slots: (t, ...) each."""
        for name, tensor in tensors.items():
            self.held[name][self.slots : self.slots + len(tensor)] = tensor
        self.slots += len(tensors["features"])

    def finish(self, grid: TokenGrid) -> None:
        """Nothing more comes; `grid` says what came, and `tokens` are it."""
        held = {name: tensor[: self.slots] for name, tensor in self.held.items()}
        self.tokens = VideoTokens(grid, held.pop("features"), deepstack=held.pop("deepstack", None), evidence=held)


def regrouped(parts: Iterable[Frames], size: int, missing: list[float]) -> Iterator[Frames]:
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
