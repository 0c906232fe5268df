"""The header of a tokens or compressed file, written and read without torch.

    {"format": "stsimdiff.tokens/1", "versions": {...}, "grid": {...}, "checksums": {tensor: CRC-32}}

`grid` is records.TokenGrid, of whose `coverage` only the fields that differ from a whole frame are written; `saliency`
is written where it is "cls" (attention from [CLS]), and a file without the entry has attention received; `period` is
written where the model's positions follow it. A compressed file also has `method` (name, parameters, ratio, prompt) and
`counts`, and a file that was made among many has `archive` (the hashes of its item and of the settings). A file with
packed features has `packing` (their bits, type and seed). schema.py says what may be in it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..errors import FileFormatError
from ..records import RECEIVED, Coverage, TokenGrid
from .directory import Directory, Entry, parse_json, read_directory
from .formats import COMPRESSED, DIGEST, KEY, PACKED_VERSION, REMAKE, TOKENS, VERSION
from .old_files import coverage_by_family
from .schema import Header, check_tensors, read_header_as_record
from .stores import AnyPath


@dataclass(frozen=True)
class ReadHeader:
    """A header that has been checked."""

    data: dict[str, Any]  # as it was written
    record: Header
    tensors: dict[str, Entry]
    digest: str  # it showed that the header is as it was written; empty for files before 0.2, which had none

    @property
    def protected(self) -> bool:
        """Whether there is a digest."""
        return bool(self.digest)


def encode_header(entries: Mapping[str, Any], grid: TokenGrid, checksums: Mapping[str, str]) -> str:
    """The header: `entries` (format, versions and others), the grid and the checksums as one JSON text.

    Raises ValueError for what `read_header` would refuse.
    """
    whole = asdict(Coverage())
    coverage = {name: value for name, value in asdict(grid.coverage).items() if value != whole[name]}
    described = {**asdict(grid), "coverage": coverage}
    if grid.saliency == RECEIVED:
        del described["saliency"]
    if grid.period is None:
        del described["period"]
    header = {**entries, "grid": described, "checksums": dict(checksums)}
    text = json.dumps(header, sort_keys=True, separators=(",", ":"))
    read_header_as_record(parse_json(text), header["format"].startswith(COMPRESSED), strict=True)
    return text


def digest(text: str, tensors: Mapping[str, Mapping[str, Any]]) -> str:
    """SHA-256 of a header's text and of the entries of all tensors, in any order."""
    covered = json.dumps([text, tensors], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(covered.encode()).hexdigest()


def read_header(path: AnyPath) -> ReadHeader:
    """The header of a file, checked: its digest, its format, and that it fits itself and the tensors.

    Raises RequestError for a missing file; FileFormatError for a truncated, foreign, damaged or edited file, and for a
    format newer than this version reads.
    """
    directory = read_directory(path)
    if KEY not in directory.metadata:
        raise FileFormatError(f"{path} was not written by stsimdiff.", REMAKE)
    try:
        data = parse_json(directory.metadata[KEY])
        name, number = _format(data)
    except ValueError as error:
        raise FileFormatError(f"The header of {path} was edited: {error}.", REMAKE) from error
    if name not in (TOKENS, COMPRESSED):
        raise FileFormatError(f"{path} has the unknown format {name!r}.", REMAKE)
    if number > PACKED_VERSION:
        raise FileFormatError(
            f"{path} has format {name}/{number}; this version reads up to {name}/{PACKED_VERSION}.",
            "pip install --upgrade stsimdiff",
        )
    protected = DIGEST in directory.metadata
    if protected and directory.metadata[DIGEST] != _digest_of(directory):
        raise FileFormatError(f"The header of {path} is damaged or was edited: its digest does not match.", REMAKE)
    try:
        if not protected and len(directory.metadata) > 1:
            raise ValueError("there is other metadata, but no digest")
        # Without a digest every name counts, because no later version wrote the file: a flipped bit is no new key.
        record = read_header_as_record(data, name == COMPRESSED, strict=not protected)
        if (record.packing is not None) != (number > VERSION):
            raise ValueError(f"a file of format {number} has {'a' if record.packing else 'no'} packing")
        check_tensors(record, directory.tensors, strict=not protected)
    except ValueError as error:
        raise FileFormatError(f"The header of {path} was edited: {error}.", REMAKE) from error
    if "coverage" not in data["grid"]:
        record = replace(record, grid=coverage_by_family(record.grid))
    return ReadHeader(data, record, directory.tensors, directory.metadata.get(DIGEST, ""))


def _format(data: Any) -> tuple[str, int]:
    text = data.get("format") if isinstance(data, dict) else None
    found = re.fullmatch(r"(.{1,60})/(\d{1,9})", text, re.A) if isinstance(text, str) else None
    if found is None:
        raise ValueError("it states no format")
    return found[1], int(found[2])


def _digest_of(directory: Directory) -> str:
    first = min((entry.begin for entry in directory.tensors.values()), default=0)
    entries = {
        name: {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [entry.begin - first, entry.end - first],
        }
        for name, entry in directory.tensors.items()
    }
    return digest(directory.metadata[KEY], entries)
