"""Where the output of an item is, and whether it is there: the file opens, and its header names item and settings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

from ..errors import StsimdiffError
from ..records import ArchiveMark
from ..storage.header import ReadHeader, read_header
from ..storage.stores import AnyPath
from .identity import Item

SUFFIX = ".safetensors"
_SHORT, _LONG = 8, 16  # hex digits of the id in a name; the second where two names are equal otherwise
_STEM = 160  # bytes of a file's own name that are kept: names end at 255


def name_of(item: Item, digits: int = _SHORT) -> str:
    """The path of an output below the folder of outputs: ab/<stem>-<id8>.safetensors."""
    stem = re.sub(r"[^\w.() -]", "_", PurePosixPath(item.name).stem).strip(" .") or "video"
    while len(stem.encode()) > _STEM:
        stem = stem[:-1]
    return f"{item.id[:2]}/{stem}-{item.id[:digits]}{SUFFIX}"


def names_of(items: Iterable[Item]) -> dict[str, str]:
    """The path of the output of every item, by id; no two are equal."""
    items = list(items)
    taken = Counter(map(name_of, items))
    return {item.id: name_of(item, _SHORT if taken[name_of(item)] == 1 else _LONG) for item in items}


def done(out: AnyPath, item: Item, name: str, settings: str) -> tuple[str, ReadHeader] | None:
    """Name and header of the output of an item, if it is there, whole, and made with these settings."""
    for each in dict.fromkeys((name, name_of(item))):
        path = out / each
        try:
            header = read_header(path)
        except (StsimdiffError, OSError):
            continue  # it is made again
        if header.record.archive == ArchiveMark(item.id, settings):
            return each, header
    return None
