"""A folder of outputs in numbers: what its log tells, held against the files that are there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..errors import RequestError, StsimdiffError
from ..storage.atomic import whole_file
from ..storage.header import read_header
from ..storage.stores import AnyPath
from .log import DUPLICATE, FAILED, SKIPPED, SUCCESS, TIMEOUT, Row, fold
from .outputs import SUFFIX
from .settings import Settings, read

MOVED = "moved"  # succeeded, but the output is not there any more
LEFT = "left"  # not tried yet
_COMMONEST = 10


@dataclass
class Status:
    """The last state of every item under the settings of run.json."""

    settings: Settings
    rows: list[Row] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)  # by status; MOVED and LEFT besides those of rows
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)  # (stage, message without names)
    stages: Counter[str] = field(default_factory=Counter)  # seconds, of what succeeded
    items: int | None = None  # of the last start; None if the log is lost

    @property
    def video_seconds(self) -> float:
        """Seconds of video that are done."""
        return sum(row.duration or 0.0 for row in self.rows if row.status == SUCCESS)

    def total(self, name: str) -> int:
        """The sum of a number (tokens, kept, bytes) over what is done."""
        return sum(getattr(row, name) or 0 for row in self.rows if row.status == SUCCESS)

    def commonest(self) -> list[tuple[str, str, int]]:
        """(stage, message, how often) of the commonest failures."""
        return [(stage, text, count) for (stage, text), count in self.errors.most_common(_COMMONEST)]


def status_of(out: AnyPath) -> Status:
    """The state of a folder. RequestError if it is not one of outputs.

    Files count, not only lines: a file that the log does not know is done, and one that is missing is not.
    """
    settings = read(out)
    log = fold(out, settings.id)
    status = Status(settings, items=None if log.start is None else log.start.items)
    there = set(_outputs(out))
    for row in log.current():
        if row.status == SUCCESS and row.output not in there:
            status.counts[MOVED] += 1
        else:
            status.rows.append(row)
    there -= {row.output for row in log.rows.values() if row.output is not None}
    status.rows += _unknown(out, there, settings.id, {id_ for id_, row in log.rows.items() if row.status == SUCCESS})
    for row in status.rows:
        status.counts[row.status] += 1
        if row.failed:
            status.errors[row.stage or "", anonymous(row)] += 1
        if row.status == SUCCESS:
            status.stages.update(row.seconds)
    if status.items is not None:
        status.counts[LEFT] = max(status.items - len(status.rows) - status.counts[MOVED], 0)
    return status


def anonymous(row: Row) -> str:
    """The message of a failure without what is special about the item, so that equal ones can be counted."""
    text = (row.error_message or row.error_type or "").replace(row.path, "FILE")
    return re.sub(r"\b\d+(\.\d+)?\b", "N", text)


def save_parquet(status: Status, path: Path) -> None:
    """Write the last row of every item to a Parquet file. RequestError without pyarrow."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise RequestError("--parquet needs pyarrow.", "pip install pyarrow, or use --json.") from error
    columns: dict[str, Any] = {
        item.name: [getattr(row, item.name) for row in status.rows] for item in fields(Row) if item.name != "seconds"
    }
    types = {"int": pyarrow.int64(), "float": pyarrow.float64(), "bool": pyarrow.bool_()}
    arrays = {
        item.name: pyarrow.array(columns[item.name], types.get(str(item.type).split(" ")[0], pyarrow.string()))
        for item in fields(Row)
        if item.name in columns
    }
    stages = sorted({stage for row in status.rows for stage in row.seconds})
    for stage in stages:
        values = [row.seconds.get(stage) for row in status.rows]
        arrays[f"seconds_{stage}"] = pyarrow.array(values, pyarrow.float64())
    with whole_file(path, StsimdiffError) as temporary:
        parquet.write_table(pyarrow.table(arrays), temporary)


def _outputs(out: AnyPath) -> Iterator[str]:
    for file in out.glob(f"??/*{SUFFIX}"):
        yield f"{file.parent.name}/{file.name}"


def _unknown(out: AnyPath, names: set[str], settings: str, known: set[str]) -> Iterator[Row]:
    """Rows for outputs of which the log does not tell."""
    for name in sorted(names):
        try:
            header = read_header(out / name)
        except StsimdiffError:
            continue
        mark, grid = header.record.archive, header.record.grid
        if mark is not None and mark.settings == settings and mark.item not in known:
            row = Row(mark.item, grid.source.name, SUCCESS, settings, duration=grid.source.seconds, output=name)
            index = header.tensors.get("index")
            yield replace(
                row,
                tokens=grid.tokens,
                kept=None if index is None else index.shape[0],
                bytes=(out / name).stat().st_size,
                sha256=grid.source.sha256,
            )


#: The states in the order of a table, with what they mean.
STATES = {
    SUCCESS: "done",
    DUPLICATE: "equal to another item",
    SKIPPED: "not a video, or already compressed",
    FAILED: "failed",
    TIMEOUT: "took too long",
    MOVED: "done, but the file is not there any more: the next start makes it again",
    LEFT: "not tried yet",
}
