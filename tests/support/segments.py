"""Folders of segments made without a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from stsimdiff_cli.records import VideoTokens
from stsimdiff_cli.storage.formats import TOKENS
from stsimdiff_cli.storage.segment_writer import open_segments
from stsimdiff_cli.storage.writing import save_tokens


def stretch_of(tokens: VideoTokens, begin: int, end: int) -> VideoTokens:
    """Some slots of tokens in memory, as a video of their own."""
    grid = replace(tokens.grid, shape=(end - begin, *tokens.grid.shape[1:]), seconds=tokens.grid.seconds[begin:end])
    return VideoTokens.of(grid, {name: values.tensor()[begin:end] for name, values in tokens.tensors.items()})


def save_segments(
    folder: Path, tokens: VideoTokens, lengths: list[int], store: str | None = None, complete: bool = True
) -> Path:
    """Write the slots of tokens as segments of so many slots, besides those that the folder has."""
    with open_segments(folder, TOKENS, tokens.grid.model.fingerprint, {"store": store or "auto"}) as writer:
        begin = sum(segment.slots for segment in writer.segments)
        for length in lengths:
            save_tokens(writer.next_path, stretch_of(tokens, begin, begin + length), store)
            begin += length
            writer.add((), complete=complete and begin == tokens.grid.shape[0])
    return folder
