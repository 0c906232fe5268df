"""Reads lists of videos: a path a line, or a column of paths with optional columns of start and end."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import RequestError
from ..storage.image_files import text_lines

#: Names of the column of paths; the first that is there counts.
PATHS = ("path", "video", "file", "video_path", "filename")
START, END = "start", "end"


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a list. A relative path starts at the folder of the list."""

    path: str
    start: float | None = None  # seconds
    end: float | None = None


def read_list(path: Path) -> list[Entry]:
    """The entries of a list, whose name says what it is: .txt, .jsonl, .csv or .parquet.

    Raises RequestError for a list that is not what its name says, with the line.
    """
    try:
        return list(LISTS[path.suffix.lower()](path))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise RequestError(f"The list {path} cannot be read: {reason}.", "Give a list of paths to videos.") from error


def _text(path: Path) -> Iterator[Entry]:
    return map(Entry, text_lines(path))


def _jsonl(path: Path) -> Iterator[Entry]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError:
                hint = 'Every line is an object, e.g. {"path": "a.mp4", "start": 10, "end": 20}'
                raise RequestError(f"Line {number} of {path} is not JSON.", hint) from None
            yield _entry(path, number, {PATHS[0]: row} if isinstance(row, str) else row)


def _csv(path: Path) -> Iterator[Entry]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        for row in rows:
            yield _entry(path, rows.line_num, row)


def _parquet(path: Path) -> Iterator[Entry]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise RequestError("Reading Parquet needs pyarrow.", "pip install pyarrow, or give the list as CSV.") from error
    try:
        number = 0
        with ParquetFile(path) as file:
            names = [name for name in file.schema_arrow.names if name in (*PATHS, START, END)]
            for batch in file.iter_batches(columns=names):
                for row in batch.to_pylist():
                    number += 1
                    yield _entry(path, number, row)
    except ArrowException as error:
        raise RequestError(f"{path} is not a Parquet file: {error}.", "Give a list of paths to videos.") from error


#: What reads a list, by the end of its name.
LISTS: dict[str, Callable[[Path], Iterable[Entry]]] = {
    ".txt": _text,
    ".jsonl": _jsonl,
    ".csv": _csv,
    ".parquet": _parquet,
}


def _entry(path: Path, number: int, row: Any) -> Entry:
    place = f"Line {number} of {path}"
    column = next((name for name in PATHS if isinstance(row, dict) and row.get(name)), None)
    if column is None or not isinstance(row[column], str):
        columns = f"It has {', '.join(map(str, row))}." if isinstance(row, dict) and row else "It has no columns."
        raise RequestError(f"{place} has no path in a column named {PATHS[0]}.", f"{columns} Rename one to {PATHS[0]}.")
    start, end = _seconds(place, START, row), _seconds(place, END, row)
    return Entry(row[column], start, end)


def _seconds(place: str, name: str, row: dict[str, Any]) -> float | None:
    value = row.get(name)
    if value is None or value == "":
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise RequestError(f"{place}: {name} is {value!r}, which is not a time.", "Give seconds, or leave it empty.")
    return seconds
