"""Tells images that are a video: a folder that holds nothing else, or a list of them."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

from ..errors import RequestError
from .atomic import kind_of
from .stores import AnyPath

#: Names that end in one of these are meant as images.
SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"))
LIST = ".txt"
#: What file managers leave behind without asking. Names that begin with a full stop are passed over as well.
_LEFT_BEHIND = frozenset(("thumbs.db", "desktop.ini"))


def is_images(path: AnyPath) -> TypeGuard[Path]:
    """Whether this is a video in images: a folder of images and nothing else, or a .txt in which every line names one.

    Hidden files do not count, and names alone say what is an image. A folder with a folder in it is none, and there are
    none in stores.
    """
    return isinstance(path, Path) and bool(image_files(path))


def image_files(path: Path) -> tuple[Path, ...]:
    """The images of a folder or a list, in order; () for what is not a video in images.

    A folder is in natural order (2.jpg is before 10.jpg), a list in its own. Paths in a list start at its folder.
    """
    try:
        if path.suffix.lower() == LIST and path.is_file():
            files = [path.parent / line for line in text_lines(path)]
        elif path.is_dir():
            files = sorted((path / name for name in _names(path)), key=lambda file: natural(file.name))
        else:
            return ()
    except (OSError, UnicodeDecodeError):
        return ()  # whoever opens it says why
    return tuple(files) if all(_named_so(file) for file in files) else ()


def not_images(folder: Path) -> RequestError:
    """The error for a folder that is not a video."""
    try:
        files = [folder / name for name in _names(folder)]
    except OSError as error:
        return RequestError(f"{str(folder)!r} cannot be read: {error.strerror}.", "Check its permissions.")
    others = [file.name for file in files if not _named_so(file)]
    if others and len(others) < len(files):
        return RequestError(
            f"{str(folder)!r} is a folder, not a video: a folder of images holds nothing else, and {min(others)!r} "
            "is not an image.",
            "Move it elsewhere, or name the images in a .txt file.",
        )
    return RequestError(f"{str(folder)!r} is a folder, not a video.", "Name a video file in it.")


def state_of(path: Path) -> tuple[int, int]:
    """The bytes of a video, and when it changed last, in nanoseconds. Of images: all together, and the last of them.

    OSError for a file that is not there.
    """
    states = [file.stat() for file in image_files(path) or (path,)]
    return sum(state.st_size for state in states), max(state.st_mtime_ns for state in states)


def size_of(file: Path) -> int:
    """The bytes of an image. RequestError for one that is not there, or no regular file."""
    try:
        state = file.stat()
    except OSError as error:
        what = "a link to nothing" if file.is_symlink() else f"not there ({error.strerror})"
        raise RequestError(f"The image {str(file)!r} is {what}.", "Copy it again, or leave it out.") from error
    if not stat.S_ISREG(state.st_mode):
        raise RequestError(f"{str(file)!r} is {kind_of(state)}, not an image.", "Leave it out.")
    return state.st_size


def text_lines(path: Path) -> Iterator[str]:
    """The lines of a list without blanks around them; empty lines and comments, after #, are left out."""
    with path.open(encoding="utf-8-sig") as file:
        for line in file:
            if (text := line.strip()) and not text.startswith("#"):
                yield text


def natural(name: str) -> tuple[Any, ...]:
    """What names are sorted by, so that numbers in them count as numbers."""
    parts = re.split(r"(\d+)", name)
    return tuple(int(part) if place % 2 else part for place, part in enumerate(parts)), name


def _names(folder: Path) -> list[str]:
    names = (file.name for file in folder.iterdir())
    return [name for name in names if not name.startswith(".") and name.lower() not in _LEFT_BEHIND]


def _named_so(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not file.is_dir()
