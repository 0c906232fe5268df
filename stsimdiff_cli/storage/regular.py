"""Tells a file from what merely has a name: opening a pipe would wait for ever."""

from __future__ import annotations

import stat

from ..errors import RequestError
from .atomic import kind_of, unusable
from .stores import AnyPath


def check_file(path: AnyPath, wanted: str = "a file") -> None:
    """Raise RequestError, before `path` is opened, unless it is a regular file; `wanted` says what should be given."""
    try:
        state = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise RequestError(f"There is no file {path}.", "Check the name.") from None
    except OSError as error:
        raise RequestError(unusable(str(path), error), "Check the name.") from error
    if stat.S_ISDIR(state.st_mode):
        raise RequestError(f"{path} is a folder.", f"Give {wanted}.")
    if not stat.S_ISREG(state.st_mode):
        raise RequestError(f"{path} is {kind_of(state)}, not a file.", f"Save it as a file first, then give {wanted}.")
