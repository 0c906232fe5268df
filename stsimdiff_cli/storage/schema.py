"""What a header may hold, checked once, right after it is parsed: types, ranges, and that all parts fit each other.

The types and ranges are those of the records, read from their annotations, so that a new field is checked as soon as it
exists. Every check raises ValueError that names the place in the header: "grid.seconds[3] is ...".
"""

from __future__ import annotations

import math
import re
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from ..errors import RequestError
from ..ratio import parse_ratio
from ..records import Amount, ArchiveMark, TokenGrid, Within
from .directory import Entry
from .formats import COMPRESSED, MOST_PER_KEPT, MOST_TOKENS, REQUIRED, TENSORS, TOKENS, VALUES
from .packing import FLOATS, PACKED, SCALE, Packing

#: Types and sides of a tensor, as in formats.TENSORS.
Form = tuple[tuple[str, ...] | None, str]
#: A parameter of a method.
Scalar = bool | int | float | str | None


@dataclass(frozen=True)
class Choice:
    """The method that chose the tokens of a compressed file; CompressedVideo.method holds the same as a dict."""

    name: str
    parameters: dict[str, Scalar | list[Scalar]]
    ratio: str  # a decimal in (0, 1], or a fraction such as 1/3
    prompt: str | None


@dataclass(frozen=True)
class Header:
    """The header of a tokens file."""

    format: str
    versions: dict[str, str]
    grid: TokenGrid
    checksums: dict[str, str]  # CRC-32 of each tensor
    archive: ArchiveMark | None = field(default=None, kw_only=True)  # of a file that was made among many
    packing: Packing | None = field(default=None, kw_only=True)  # of features in few bits


@dataclass(frozen=True)
class CompressedHeader(Header):
    """The header of a compressed file."""

    method: Choice
    counts: dict[str, Amount]


def read_as(hint: Any, value: Any, place: str, strict: bool) -> Any:
    """A JSON value as the type that a record's annotation names. With `strict`, records take no unknown keys."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is str:
        return _text(value, place)
    if hint in (bool, int, float, types.NoneType):
        return _scalar(hint, value, place)
    if origin is Annotated:
        number, within = read_as(arguments[0], value, place, strict), arguments[1]
        if isinstance(within, Within) and not within.least <= number <= within.most:
            raise ValueError(f"{place} is {_short(number)}, not from {within.least} to {within.most}")
        return number
    if is_dataclass(hint):
        return _record(hint, value, place, strict)
    if origin in (Union, types.UnionType):
        return _first_that_fits(arguments, value, place, strict)
    if origin is dict and isinstance(value, dict):
        return {_text(k, place): read_as(arguments[1], v, f"{place}.{_short(k)}", strict) for k, v in value.items()}
    if origin in (tuple, list) and isinstance(value, list):
        each = arguments[:1] * len(value) if origin is list or arguments[1:] == (...,) else arguments
        if len(each) != len(value):
            raise ValueError(f"{place} has {len(value)} entries, not {len(each)}")
        parts = zip(each, value, strict=True)
        return origin(read_as(one, part, f"{place}[{i}]", strict) for i, (one, part) in enumerate(parts))
    raise ValueError(f"{place} is {_short(value)}, which is of the wrong type")


def _record(kind: Any, value: Any, place: str, strict: bool) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{place} is {_short(value)}, not an object")
    known = fields(kind)
    unknown = set(value) - {item.name for item in known}
    if strict and unknown:
        raise ValueError(f"{place} has the unknown entry {_short(min(unknown))}")
    found = {}
    for item in known:
        if item.name in value:
            found[item.name] = read_as(_hints(kind)[item.name], value[item.name], f"{place}.{item.name}", strict)
        elif item.default is MISSING and item.default_factory is MISSING:
            raise ValueError(f"{place} has no {item.name}")
    return kind(**found)


@lru_cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _first_that_fits(choices: tuple[Any, ...], value: Any, place: str, strict: bool) -> Any:
    for choice in choices:
        try:
            return read_as(choice, value, place, strict)
        except ValueError as error:
            problem = error
    raise problem


def _scalar(hint: Any, value: Any, place: str) -> Any:
    if hint is float and type(value) is int and abs(value) < 1 << 53:
        return float(value)
    if type(value) is not hint or (hint is float and not math.isfinite(value)):
        raise ValueError(f"{place} is {_short(value)}, which is of the wrong type")
    return value


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f"{place} is {_short(value)}, which is not text")
    return value


def _short(value: Any) -> str:
    """A value in a few characters, whatever it is."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and abs(value) >= 1 << 64:
        return "a number of many digits"
    return repr(value[:60] if isinstance(value, str) else value)


def read_header_as_record(header: Any, compressed: bool, strict: bool) -> Header:
    """The header as a record, whose parts fit each other."""
    found: Header = read_as(CompressedHeader if compressed else Header, header, "header", strict)
    _check_grid(found.grid)
    for name, checksum in found.checksums.items():
        if not re.fullmatch("[0-9a-f]{8}", checksum):
            raise ValueError(f"checksums.{_short(name)} is not a CRC-32")
    if isinstance(found, CompressedHeader):
        _check_ratio(found.method.ratio)
    if found.packing is not None and found.packing.dtype not in FLOATS:
        raise ValueError(f"packing.dtype is {_short(found.packing.dtype)}, not one of {', '.join(FLOATS)}")
    return found


def _check_grid(grid: TokenGrid) -> None:
    slots, _, columns = grid.shape
    if len(grid.seconds) != slots:
        raise ValueError(f"grid.seconds has {len(grid.seconds)} times for {slots} slots")
    if any(later < earlier for earlier, later in pairwise(grid.seconds)):
        raise ValueError("grid.seconds does not increase")
    places = [place for place, _ in grid.layout.between]
    if any(later < earlier for earlier, later in pairwise(places)) or (places and places[-1] >= grid.tokens):
        raise ValueError("grid.layout.between does not increase within the grid")
    covers, name = grid.coverage, grid.source.name
    if covers.left >= covers.right or covers.top >= covers.bottom or covers.blank_columns >= columns:
        raise ValueError("grid.coverage covers nothing")
    if "/" in name or name in ("", ".", ".."):
        raise ValueError("grid.source.name is not the name of a file")


def _check_ratio(text: str) -> None:
    try:
        above, _, below = text.partition("/")
        if not below:
            parse_ratio(text)
        elif not re.fullmatch(r"\d{1,18}/\d{1,18}", text) or not 0 < int(above) <= int(below):
            raise ValueError(f"method.ratio is {_short(text)}, not from 0 to 1")
    except RequestError as error:
        raise ValueError(f"method.ratio is not a ratio: {error}"[:200]) from error


def check_tensors(header: Header, tensors: Mapping[str, Entry], strict: bool) -> None:
    """Raise ValueError unless the file's tensors are those of the header, in number, name, type and shape."""
    kind = COMPRESSED if isinstance(header, CompressedHeader) else TOKENS
    if set(header.checksums) != set(tensors):
        odd = min(set(header.checksums) ^ set(tensors))
        raise ValueError(f"tensor {_short(odd)} has no checksum, or is not in the file")
    for name in REQUIRED[kind]:
        if name not in tensors:
            raise ValueError(f"there is no tensor {name!r}")
    sides: dict[str, int] = dict(zip("THWD", (*header.grid.shape, header.grid.width), strict=True))
    forms = TENSORS[kind]
    if header.packing is not None:
        sides["P"] = header.packing.bytes(header.grid.width)
        forms = {**forms, **_packed_forms(forms, tensors)}
    if isinstance(header, CompressedHeader):
        kept = sides["M"] = math.prod(tensors["index"].shape)
        _check_counts(header, kept)
    for name, entry in tensors.items():
        types_, letters = forms.get(name) or forms.get("", (None, "..."))
        if strict and name not in forms and "" not in forms:
            raise ValueError(f"tensor {_short(name)} is unknown")
        if types_ is not None and entry.dtype not in types_:
            raise ValueError(f"tensor {name!r} holds numbers of type {entry.dtype}, not {' or '.join(types_)}")
        if not _fits(entry.shape, letters.split(), sides):
            raise ValueError(f"tensor {_short(name)} has the shape {entry.shape}, not ({letters}) of the header")


def _packed_forms(forms: Mapping[str, Form], tensors: Mapping[str, Entry]) -> dict[str, Form]:
    """The forms of the packed tensors among those of a file, and of their scales."""
    packed: dict[str, Form] = {}
    for name in set(PACKED) & set(tensors):
        if name + SCALE not in tensors:
            raise ValueError(f"there is no tensor {name + SCALE!r}")
        vectors = forms[name][1].removesuffix(" D")
        packed |= {name: (("U8",), f"{vectors} P"), name + SCALE: (("F32",), vectors)}
    return packed


def _fits(shape: tuple[int, ...], letters: list[str], sides: Mapping[str, int]) -> bool:
    """Whether a shape is what the letters say, and not empty."""
    if letters[-1] == "...":
        letters = [*letters[:-1], *["*"] * (len(shape) - len(letters) + 1)]
    wanted = [sides.get(letter) for letter in letters]
    if len(wanted) != len(shape) or math.prod(shape) == 0:
        return False
    return all(want is None or side == want for side, want in zip(shape, wanted, strict=True))


def _check_counts(header: CompressedHeader, kept: int) -> None:
    tokens = header.grid.tokens
    for name, expected in (("tokens", tokens), ("kept", kept)):
        if header.counts.get(name, expected) != expected:
            raise ValueError(f"counts.{name} is {header.counts[name]}, not {expected}")
    if kept > tokens:
        raise ValueError(f"{kept} tokens were kept of {tokens}")
    if tokens > most_tokens(kept):
        raise ValueError(f"{kept} kept tokens are too few for a grid of {tokens}")


def most_tokens(kept: int) -> int:
    """The largest grid, in tokens, of which a compressed file may keep so few."""
    return max(MOST_TOKENS, MOST_PER_KEPT * kept)


def check_values(name: str, values: Any, tokens: int) -> None:
    """Raise ValueError for numbers that a tensor cannot hold. `values`: a tensor or an array, not empty."""
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{name} holds numbers that are not finite")
    least, most = VALUES.get(name, (low, high))
    if low < least or high > most:
        raise ValueError(f"{name} holds {low:.0f} to {high:.0f}, not {least} to {most}")
    if name == "index" and not (low >= 0 and high < tokens and (values[1:] > values[:-1]).all()):
        raise ValueError("the index does not increase within the grid")
