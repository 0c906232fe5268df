"""Finds the files that a command is about: in folders, by name, by pattern, and in lists."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from ..errors import RequestError
from ..storage.image_files import is_images, state_of
from ..storage.segment_index import is_segments
from ..storage.stores import AnyPath, StorePath, any_path, is_url, local_copy
from .lists import LISTS, read_list

STORED = ".safetensors"
_VIDEOS = "mp4 m4v mov mkv webm avi ts m2ts mts mpg mpeg vob flv wmv asf 3gp ogv gif mxf"
_OTHERS = """
    txt json jsonl csv tsv parquet md srt vtt ass sub xml html pdf log yaml yml nfo jpg jpeg png webp bmp tif tiff
    svg npy npz pt bin mp3 wav flac m4a aac ogg zip tar gz part tmp py sh"""
#: Names that end in one of these are meant as videos: in a folder, one that cannot be opened is a failure.
VIDEOS = frozenset(f".{name}" for name in _VIDEOS.split())
#: Names that end in one of these are passed over in a folder without being opened.
OTHERS = frozenset(f".{name}" for name in _OTHERS.split())


@dataclass(frozen=True, slots=True)
class Found:
    """A file, and the part of it that is meant. `size` and `mtime_ns` are -1 where there is no file."""

    path: str
    name: str  # relative to the folder that was given, or as it was written
    size: int
    mtime_ns: int
    start: float | None = None
    end: float | None = None
    sure: bool = True  # False: it was found in a folder, and its name does not say that it is a video


def is_many(texts: list[str]) -> bool:
    """Whether the sources of a command are more than one file: a folder, a list, a pattern, or several of anything.

    A folder of segments is one video, and so is a folder or a list of images.
    """
    if len(texts) != 1 or is_url(texts[0]):
        return True
    path = Path(texts[0])
    if is_images(path):
        return False
    return (path.is_dir() and not is_segments(path)) or _is_list(path) or _is_pattern(texts[0])


def find(texts: Iterable[str], out: AnyPath | None, stored: bool, images: bool = False) -> list[Found]:
    """All files that the sources name, in order; `stored`: tokens files and compressed files are among them.

    A folder or a list of images that is named is one video; a folder of images below another one counts only with
    `images`. What is in the folder `out` is left out, because it is written there. Raises RequestError for a source
    that names nothing, and for a list that cannot be read.
    """
    found: list[Found] = []
    for text in texts:
        path = any_path(text)
        if is_images(path):
            found.append(_named(text, path))
        elif _is_list(path):
            found += _in_list(path)
        elif isinstance(path, StorePath):
            found += _in_store(text, out, stored)
        elif path.is_dir():
            found += _in_folder(path, out, stored, images)
        elif _is_pattern(text):
            names = sorted(glob.glob(text, recursive=True))  # noqa: PTH207  the text may be absolute
            if not names:
                raise RequestError(f"No file matches {text}.", "Check the pattern, and quote it: 'videos/**/*.mp4'.")
            for name in names:
                part = Path(name)
                many = part.is_dir() and not is_images(part)
                found += _in_folder(part, out, stored, images) if many else [_named(name, part)]
        else:
            file = _named(text, path)
            if file.size < 0:
                raise RequestError(f"There is no file {text}.", "Check the path and the spelling.")
            found.append(file)
    return found


def _in_store(url: str, out: AnyPath | None, stored: bool) -> list[Found]:
    """The files at or below an address, or that match a pattern. Below it, names alone say what is a video."""
    try:
        if glob.has_magic(url):
            head, pattern = re.split(r"/(?=[^/]*[*?\[])", url, maxsplit=1)
            return [_stored_as(str(path), path, path.stat()) for path in StorePath(head).glob(pattern)]
        place = StorePath(url.rstrip("/"))
        if place.is_file():
            return [_stored_as(url, place, place.stat())]
        return [
            _stored_as(name, path, state)
            for path, state in place.below()
            if (name := path.relative_to(place)) is not None
            and PurePath(name).suffix.lower() in (*VIDEOS, *([STORED] if stored else []))
            and not any(part.startswith(".") for part in name.split("/"))
            and not (isinstance(out, StorePath) and path.relative_to(out) is not None)
        ]
    except OSError as error:
        raise RequestError(f"{url} cannot be read: {error.strerror or error}.", "Check address and access.") from error


def _stored_as(name: str, path: StorePath, state: Any) -> Found:
    return Found(str(path), name, state.st_size, state.st_mtime_ns)


def _is_list(path: AnyPath) -> bool:
    return path.suffix.lower() in LISTS and path.is_file()


def _is_pattern(text: str) -> bool:
    return glob.has_magic(text) and not os.path.lexists(text)


def _named(name: str, path: AnyPath, start: float | None = None, end: float | None = None) -> Found:
    """A file that was named: whatever it is, it is an item."""
    name = os.path.normpath(name) if isinstance(path, Path) else name
    try:
        if isinstance(path, Path):
            return Found(str(path), name, *state_of(path), start, end)
        state = path.stat()
    except OSError:
        return Found(str(path), name, -1, -1, start, end)
    return Found(str(path), name, state.st_size, state.st_mtime_ns, start, end)


def _in_list(path: AnyPath) -> Iterator[Found]:
    with local_copy(str(path)) as copy:
        try:
            entries = read_list(copy)
        except RequestError as error:
            raise RequestError(str(error).replace(str(copy), str(path)), error.hint) from error
    for entry in entries:
        place = any_path(entry.path)
        if isinstance(place, Path) and not place.is_absolute():
            place = path.parent / place
        yield _named(entry.path, place, entry.start, entry.end)


def _in_folder(folder: Path, out: AnyPath | None, stored: bool, images: bool) -> Iterator[Found]:
    """The files below a folder, in order of their names. Links are followed, but no folder is entered twice."""
    entered: set[tuple[int, int]] = set()
    if isinstance(out, Path) and (place := _place(out)) is not None:
        entered.add(place)
    stack = [folder]
    while stack:
        place = _place(stack[-1])
        current = stack.pop()
        if place is None or place in entered:
            continue
        entered.add(place)
        if is_segments(current):
            raise RequestError(f"{current} is a folder of segments, which is one video.", "Name it by itself.")
        if images and is_images(current):
            yield _named(current.relative_to(folder).as_posix(), current)
            continue
        try:
            entries = sorted(os.scandir(current), key=lambda entry: entry.name)
        except OSError as error:
            raise RequestError(f"{current} cannot be read: {error.strerror}.", "Check its permissions.") from error
        folders = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                state = entry.stat()
            except OSError:  # a link to nothing
                continue
            if stat.S_ISDIR(state.st_mode):
                folders.append(Path(entry.path))
            elif stat.S_ISREG(state.st_mode) and (sure := _looks(entry.name, stored)) is not None:
                name = Path(entry.path).relative_to(folder).as_posix()
                yield Found(entry.path, name, state.st_size, state.st_mtime_ns, sure=sure)
        stack += reversed(folders)


def _looks(name: str, stored: bool) -> bool | None:
    """Whether a file's name says that it is a video (True), leaves it open (False), or denies it (None)."""
    suffix = PurePath(name).suffix.lower()
    if suffix == STORED:
        return False if stored else None
    if suffix in OTHERS:
        return None
    return suffix in VIDEOS


def _place(path: Path) -> tuple[int, int] | None:
    """What tells a folder from all others, by whatever links it was reached."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino
