"""The beginning of a safetensors file, read without torch and checked before anything else is believed.

    8 bytes, little endian: length n of the JSON  |  n bytes of JSON, padded with spaces  |  the tensors, without gaps

    {"__metadata__": {name: text}, tensor: {"dtype": "F32", "shape": [4, 3], "data_offsets": [begin, end]}, ...}

Everything that is allocated later is bounded by what is checked here: the shapes of the tensors, whose bytes are there.
"""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import FileFormatError, RequestError
from .formats import REMAKE
from .stores import AnyPath

#: Bytes per number of the types that our files hold.
ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1}
#: Bytes of the longest header: the times of half a million slots. Parsed JSON takes up to twenty times its length.
LONGEST = 1 << 25
_METADATA = "__metadata__"


@dataclass(frozen=True)
class Entry:
    """One tensor of a file: its type, its shape, and where its bytes begin and end in the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Directory:
    """The metadata of a file, and its tensors in the order of their bytes."""

    metadata: dict[str, str]
    tensors: dict[str, Entry]


def read_directory(path: AnyPath) -> Directory:
    """Raises RequestError for a file that is missing or unreadable, FileFormatError for what is not safetensors."""
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            raise FileNotFoundError
        with path.open("rb") as file:
            size = state.st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > size - 8:
                raise ValueError(f"its {size} bytes are fewer than its beginning announces")
            if length > LONGEST:
                raise ValueError(f"its header of {length} bytes is longer than {LONGEST}")
            text = file.read(length).decode("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise RequestError(f"There is no file {path}.", "Check the name.") from None
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror or error}.", "Check its permissions.") from error
    except ValueError as error:
        raise _foreign(path, error) from error
    try:
        return _directory(text, 8 + length, size)
    except ValueError as error:
        raise _foreign(path, error) from error


def _foreign(path: AnyPath, error: ValueError) -> FileFormatError:
    reason = f"{error.reason} in its header" if isinstance(error, UnicodeDecodeError) else error
    return FileFormatError(f"{path} is truncated or damaged, or is not a safetensors file ({reason}).", REMAKE)


def _directory(text: str, start: int, size: int) -> Directory:
    """The directory written in `text`, of a file of `size` bytes whose tensors begin at `start`; ValueError."""
    if not text.startswith("{"):
        raise ValueError("its header is not a JSON object")
    header: dict[str, Any] = parse_json(text)
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata is not text")
    found = {name: _entry(name, entry, start) for name, entry in header.items()}
    tensors = dict(sorted(found.items(), key=lambda item: (item[1].begin, item[1].end)))
    end = start
    for name, entry in tensors.items():
        if entry.begin != end:
            raise ValueError(f"tensor {name!r} does not begin where the one before ends")
        end = entry.end
    if end != size:
        raise ValueError(f"its tensors end at byte {end} of {size}")
    return Directory(metadata, tensors)


def _entry(name: str, entry: Any, start: int) -> Entry:
    keys = {"dtype", "shape", "data_offsets"}
    if not isinstance(entry, dict) or set(entry) != keys:
        raise ValueError(f"tensor {name!r} is not described by {', '.join(sorted(keys))}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise ValueError(f"tensor {name!r} has numbers of the unknown type {dtype!r}"[:200])
    if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        raise ValueError(f"tensor {name!r} has a shape or offsets that are not whole numbers of at least 0")
    if math.prod(shape) * ITEM_BYTES[dtype] != offsets[1] - offsets[0]:
        raise ValueError(f"tensor {name!r} has other bytes than its shape and type need")
    return Entry(dtype, tuple(shape), start + offsets[0], start + offsets[1])


def _are_counts(values: Any) -> bool:
    """Whether this is a short list of whole numbers that fit 63 bits."""
    return isinstance(values, list) and len(values) <= 16 and all(type(v) is int and 0 <= v < 1 << 63 for v in values)


def parse_json(text: str) -> Any:
    """JSON as its standard has it: no NaN, no infinity, no key twice, and not nested too deeply; else ValueError."""
    try:
        return json.loads(text, parse_constant=_refuse, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("its header is nested too deeply") from None


def _refuse(text: str) -> None:
    raise ValueError(f"its header holds {text}, which is not a number")


def _once(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("its header has the same key twice")
    return found
