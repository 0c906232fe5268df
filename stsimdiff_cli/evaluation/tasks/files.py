"""Finds and reads a benchmark's published files: questions as rows of Parquet or JSON, and the videos near them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import RequestError
from ...storage.regular import check_file
from .base import Sample, letters

#: Suffixes of videos; of two files with one name the first is taken.
SUFFIXES = (".mp4", ".MP4", ".mkv", ".webm")
_FOLDERS = ("data", "videos", "video")


@dataclass(frozen=True)
class Row:
    """One row of a file of questions."""

    file: Path
    number: int  # from 1
    values: Mapping[str, Any]

    def wrong(self, what: str) -> RequestError:
        """The error for a row that is not as published; `what` completes "row 3 of x.json ..."."""
        return RequestError(f"Row {self.number} of {self.file} {what}.", "Download the file again.")

    def text(self, column: str) -> str:
        """The text in `column`; RequestError if there is none."""
        value = self.values.get(column)
        if not isinstance(value, str):
            raise self.wrong(f"has no text in the column {column!r}")
        return value

    def texts(self, column: str, fewest: int, most: int) -> list[str]:
        """The list of texts in `column`, `fewest` to `most` of them; RequestError otherwise."""
        value = self.values.get(column)
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise self.wrong(f"has no list of texts in the column {column!r}")
        if not fewest <= len(value) <= most:
            expected = fewest if fewest == most else f"{fewest} to {most}"
            raise self.wrong(f"has {len(value)} texts in the column {column!r} instead of {expected}")
        return value

    def seconds(self, column: str) -> float | None:
        """The time in `column`, None if there is none; RequestError for anything but a number."""
        value = self.values.get(column)
        if value is None:
            return None
        if not isinstance(value, int | float):
            raise self.wrong(f"has no number of seconds in the column {column!r}")
        return float(value)

    def whole(self, column: str) -> int:
        """The whole number in `column`; RequestError if there is none."""
        value = self.values.get(column)
        if not isinstance(value, int):
            raise self.wrong(f"has no whole number in the column {column!r}")
        return value

    def letter(self, column: str, options: int) -> str | None:
        """The letter of the right option, from a letter or an index in `column`; None if the column has no label."""
        value = self.values.get(column)
        if value in (None, "", "None"):
            return None
        known = letters(options)
        if isinstance(value, str) and len(value) == 1 and value in known:
            return value
        if str(value).isdecimal() and int(value) < options:
            return known[int(value)]
        raise self.wrong(f"has {value!r} in the column {column!r}, which is none of its {options} options")


class Published(NamedTuple):
    """Files of questions, and the folder that holds what was published with them."""

    files: list[Path]
    home: Path


def find(
    data: Path, patterns: Sequence[str], title: str, source: str | None = None, stems: Collection[str] | None = None
) -> Published:
    """The files under `data` that match the first pattern with any match; RequestError if none has one.

    Folders of a pattern that end in a wildcard are versions of one data set: the files of the newest are taken.
    `source` is the data set's name on the Hugging Face Hub, if it is there, for the hint. With `stems`, only files of
    these names (without their suffix) count.
    """
    if not data.is_dir():
        raise RequestError(f"There is no folder {str(data)!r}.", f"Give the folder of {title}'s files with --data.")
    for pattern in patterns:
        files = sorted(file for file in data.glob(pattern) if stems is None or file.stem in stems)
        if files:
            newest = max({file.parent for file in files}, key=lambda folder: folder.stat().st_mtime)
            depth = len(Path(pattern).parts) - 1
            return Published([file for file in files if file.parent == newest], newest.parent if depth else newest)
    hint = f"Looked for {', '.join(patterns)}."
    if source is not None:
        hint += f" To get them: hf download {source} --repo-type dataset --local-dir {data}"
    raise RequestError(f"{str(data)!r} holds no questions of {title}.", hint)


def read_rows(files: Iterable[Path]) -> list[Row]:
    """All rows of Parquet or JSON files (a list of objects, .jsonl: one a line); RequestError if one cannot be read."""
    readers = {".parquet": _parquet, ".jsonl": _lines}
    return [
        Row(file, number, values)
        for file in files
        for number, values in enumerate(readers.get(file.suffix, _objects)(file), 1)
    ]


def read_json(file: Path) -> Any:
    """The content of a JSON file; RequestError if it is not JSON."""
    check_file(file, "the file that was published")
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RequestError(f"{file} is not JSON ({error}).", "Download the file again.") from error


def _objects(file: Path) -> list[dict[str, Any]]:
    return _as_objects(file, read_json(file))


def _lines(file: Path) -> list[dict[str, Any]]:
    check_file(file, "the file that was published")
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
        return _as_objects(file, [json.loads(line) for line in lines if line.strip()])
    except ValueError as error:
        raise RequestError(f"{file} is not JSON in every line ({error}).", "Download the file again.") from error


def _as_objects(file: Path, content: Any) -> list[dict[str, Any]]:
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise RequestError(f"{file} is not a list of questions.", "Download the file again.")
    return content


def _parquet(file: Path) -> list[dict[str, Any]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise RequestError(f"To read {file}, pyarrow is needed.", "pip install 'stsimdiff[eval]'") from error
    try:
        return parquet.ParquetFile(file).read().to_pylist()
    except (ArrowException, OSError) as error:
        raise RequestError(f"{file} is not a Parquet file that can be read ({error}).", "Download it again.") from error


class Videos:
    """The videos of a benchmark, each folder listed once."""

    def __init__(self, bases: Iterable[Path], usual: str) -> None:
        """Look into the folders `usual`, data, videos and video of each base, and then into the bases themselves."""
        roots = list(dict.fromkeys(bases))
        inside = [root / name for root in roots for name in dict.fromkeys((usual, *_FOLDERS))]
        self.first = next((folder for folder in inside if folder.is_dir()), inside[0])
        self._files: dict[str, Path] = {}
        for folder in filter(Path.is_dir, [*inside, *roots]):
            files = [file for file in folder.iterdir() if file.suffix in SUFFIXES]
            for file in sorted(files, key=lambda file: SUFFIXES.index(file.suffix)):
                self._files.setdefault(file.stem, file)

    def find(self, name: str) -> Path:
        """The video of that name without suffix; where it belongs if it is not there."""
        return self._files.get(name, self.first / f"{name}.mp4")


def unique(samples: list[Sample], published: Published) -> list[Sample]:
    """The samples as they are; RequestError if there are none or two have one id."""
    if not samples:
        raise RequestError(f"{published.files[0]} holds no questions.", "Download the file again.")
    seen: set[str] = set()
    for sample in samples:
        if sample.id in seen:
            raise RequestError(
                f"{published.files[0]} holds two questions with the id {sample.id!r}.", "Download it again."
            )
        seen.add(sample.id)
    return samples
