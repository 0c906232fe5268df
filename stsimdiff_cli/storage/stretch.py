"""A stretch of a video: how its times are written, and which slots it shows."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass

from ..errors import RequestError
from ..records import TokenGrid


@dataclass(frozen=True)
class Stretch:
    """From a time to another, both in seconds of the video; None is its beginning, or its end."""

    start: float | None = None
    end: float | None = None

    def __str__(self) -> str:
        ends = {"from": self.start, "to": self.end}
        return " ".join(f"{word} {clock(time)}" for word, time in ends.items() if time is not None)

    def slots(self, grid: TokenGrid) -> range:
        """The slots that are shown in it: each is shown until the next one begins.

        RequestError for a stretch that begins after the last slot, or ends before the first.
        """
        seconds, count = grid.seconds, len(grid.seconds)
        step = (seconds[-1] - seconds[0]) / (count - 1) if count > 1 else grid.source.seconds
        first = 0 if self.start is None else max(0, bisect_right(seconds, self.start) - 1)
        end = count if self.end is None else bisect_right(seconds, self.end)
        if end == 0 or (self.start is not None and self.start > seconds[-1] + step):
            raise RequestError(
                f"There is nothing {self}: the tokens are from {clock(seconds[0])} to {clock(seconds[-1] + step)}.",
                "Choose times within them.",
            )
        return range(first, end)


def parse_stretch(start: str | None, end: str | None) -> Stretch | None:
    """The stretch that --from and --to say; None if neither is given. RequestError for what is not a stretch."""
    if start is None and end is None:
        return None
    stretch = Stretch(*(None if text is None else parse_time(text) for text in (start, end)))
    if stretch.start is not None and stretch.end is not None and stretch.start > stretch.end:
        raise RequestError(f"--from {start} is after --to {end}.", "Give the earlier time to --from.")
    return stretch


def parse_time(text: str) -> float:
    """Seconds of `90`, `90.5`, `1:30` or `1:02:03.5`. RequestError for anything else."""
    found = re.fullmatch(r"\s*(?:(?:(\d{1,5}):)?(\d{1,5}):)?(\d{1,9}(?:\.\d{1,9})?)\s*", text)
    hours, minutes, seconds = (float(part or 0) for part in found.groups()) if found else (0.0, 0.0, 0.0)
    above_seconds = found is not None and found[2] is not None
    if found is None or (above_seconds and seconds >= 60) or (found[1] is not None and minutes >= 60):
        raise RequestError(f"{text!r} is not a time.", "Write seconds, mm:ss or hh:mm:ss, e.g. 90, 1:30 or 1:02:03.")
    return 3600 * hours + 60 * minutes + seconds


def clock(seconds: float) -> str:
    """A time as people write it: 1:30, 1:02:03, with a decimal where there is one."""
    tenths = round(10 * seconds)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    shown = f"{rest // 10:02d}" + (f".{rest % 10}" if rest % 10 else "")
    return f"{hours}:{minutes:02d}:{shown}" if hours else f"{minutes}:{shown}"
