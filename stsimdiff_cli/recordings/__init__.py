"""Recordings that grow: a folder of segments gets what is new of a video, and another one what is kept of it.

encoding.py      tokens, of what is new in a video
compressing.py   kept tokens, of what is new in a folder of tokens
"""

from __future__ import annotations

from dataclasses import dataclass

from ..storage.segment_index import Segment

__all__ = ["Added"]


@dataclass(frozen=True)
class Added:
    """What a folder of segments has got."""

    segments: tuple[Segment, ...]  # all that it has now
    added: int  # how many of them are new
    complete: bool  # whether nothing will follow

    @property
    def slots(self) -> int:
        """Slots in all segments."""
        return sum(segment.slots for segment in self.segments)

    @property
    def kept(self) -> int:
        """Tokens in all segments."""
        return sum(segment.kept for segment in self.segments)

    @property
    def bytes(self) -> int:
        """Bytes of all segments."""
        return sum(segment.bytes for segment in self.segments)
