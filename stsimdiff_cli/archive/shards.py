"""A part of the items for each of several machines, by the hash of the item: nobody needs to know of the others."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from ..errors import RequestError

_EXAMPLE = "Write e.g. --shard 0/4, for the first of four."
#: What SLURM sets in the tasks of an array.
_SLURM = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT")


@dataclass(frozen=True)
class Shard:
    """Shard `index` of `count`."""

    index: int = 0
    count: int = 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def holds(self, item_id: str) -> bool:
        """Whether an item belongs to this shard."""
        return int(item_id[:16], 16) % self.count == self.index


ALL = Shard()


def parse_shard(text: str | None) -> Shard:
    """The shard that a user names; without a name, the one of this task of a SLURM array, or everything.

    "all" is everything, in a SLURM array too. RequestError for what is not i/n with 0 <= i < n.
    """
    if text is None:
        return _from_slurm()
    if text.strip() == "all":
        return ALL
    found = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text, re.A)
    if found is None:
        raise RequestError(f"{text!r} is not a shard.", _EXAMPLE)
    index, count = int(found[1]), int(found[2])
    if index >= count:
        raise RequestError(f"There is no shard {index} of {count}: they are 0 to {count - 1}.", _EXAMPLE)
    return Shard(index, count)


def _from_slurm() -> Shard:
    task, first, count = (os.environ.get(name, "") for name in _SLURM)
    if not task:
        return ALL
    if not (task.isdecimal() and count.isdecimal() and (first or "0").isdecimal()):
        raise RequestError(
            f"This is a task of a SLURM array, but {_SLURM[0]} and {_SLURM[2]} do not tell which of how many.",
            f"{_EXAMPLE} Or --shard all, for everything.",
        )
    index = int(task) - int(first or 0)
    if not 0 <= index < int(count):
        raise RequestError(
            f"The task {task} of the SLURM array is not one of {count} that follow each other.",
            "Number the tasks without gaps, e.g. --array=0-3; or give --shard.",
        )
    return Shard(index, int(count))
