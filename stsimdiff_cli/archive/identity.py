"""What an item is: a video, or a part of one, whatever its place in a folder or a list."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..storage.stores import any_path
from ..video.source import checksum_of
from .sources import Found

#: Is told what is done before the work, in words: "files read", of which so many of so many are done.
Tell = Callable[[str, int, int], None]
READING = "files read for their SHA-256"
#: Files that are read at the same time for their SHA-256.
_READERS = 4


@dataclass(frozen=True, slots=True)
class Item:
    """One video, or a part of one. `size` and `mtime_ns` are -1 where there is no file."""

    id: str  # SHA-256, as hex digits
    path: str  # where the file is
    name: str  # its path as the id has it: relative to the folder, or as it was written
    size: int
    mtime_ns: int
    start: float | None = None  # seconds
    end: float | None = None
    sure: bool = True  # False: it was found in a folder, and may be no video
    sha256: str | None = None


def tell_nobody(what: str, done: int, total: int) -> None:
    """For callers that nobody watches."""


def hashed(value: Any) -> str:
    """The SHA-256 of a JSON value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def identified(found: Iterable[Found], contents: dict[str, str] | None = None) -> list[Item]:
    """The items of files: their ids are hashes of path, size and time, or, with `contents` (path: SHA-256), of content.

    Of files that differ in nothing but their folder (the same name below two roots, the same size and time), all but
    the first have the whole path in their id. An item that is found twice counts once.
    """
    items: dict[str, Item] = {}
    for file in found:
        item = _item(file, file.name, contents)
        other = items.get(item.id)
        if other is not None and contents is None and os.path.realpath(other.path) != os.path.realpath(item.path):
            item = _item(file, str(Path(file.path).absolute()), contents)
        items.setdefault(item.id, item)
    return list(items.values())


def _item(file: Found, name: str, contents: dict[str, str] | None) -> Item:
    content = None if contents is None else contents.get(file.path)
    if content is not None:
        what: list[Any] = ["content", content]
    else:
        what = ["path", name, file.size, file.mtime_ns]
    if file.start is not None or file.end is not None:
        what += [file.start, file.end]
    return Item(
        hashed(what), file.path, name, file.size, file.mtime_ns, file.start, file.end, file.sure, sha256=content
    )


def with_contents(items: Iterable[Item], tell: Tell = tell_nobody) -> list[Item]:
    """The same items with the SHA-256 of their files, for those that can be read."""
    items = list(items)
    known = contents_of([item.path for item in items if item.sha256 is None], tell)
    return [replace(item, sha256=item.sha256 or known.get(item.path)) for item in items]


def contents_of(paths: Iterable[str], tell: Tell = tell_nobody) -> dict[str, str]:
    """The SHA-256 of files, without those that cannot be read. Several are read at once."""
    paths, contents = list(dict.fromkeys(paths)), {}
    with ThreadPoolExecutor(_READERS, thread_name_prefix="sha256") as pool:
        for number, (path, found) in enumerate(zip(paths, pool.map(_content, paths), strict=True), 1):
            tell(READING, number, len(paths))
            if found:
                contents[path] = found
    return contents


def _content(path: str) -> str | None:
    try:
        return checksum_of(any_path(path))
    except OSError:
        return None  # whoever opens it later says why
