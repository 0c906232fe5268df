"""Writes files atomically: whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import RequestError, StsimdiffError


def check_output(path: Path, force: bool = False) -> None:
    """Raise RequestError, before any work, for an output that exists (without `force`) or cannot be written."""
    if path.is_dir():
        raise RequestError(f"{path} is a folder.", "Give a file name.")
    if path.exists() and not force:
        raise RequestError(f"{path} exists.", "Choose another name, or overwrite it with --force.")
    if not path.parent.is_dir():
        raise RequestError(f"The folder {path.parent} does not exist.", f"mkdir -p {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise RequestError(f"The folder {path.parent} cannot be written to.", "Choose another place.")


@contextmanager
def whole_file(path: Path, failure: type[Exception] = OSError) -> Iterator[Path]:
    """A temporary path to write to. If the block succeeds, the file is flushed to disk and renamed to `path`.

    Otherwise `path` stays as it was. OSError, and the `failure` that a writer raises in its place, become
    StsimdiffError.
    """
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, failure) as error:
        raise _write_error(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def save_json(path: Path, data: dict[str, Any], indent: int | None = None) -> None:
    """Write JSON atomically."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(data, indent=indent, ensure_ascii=False) + "\n")


def append_text(path: Path, text: str, hint: str) -> None:
    """Append text to a file and flush it to disk. Raises StsimdiffError with the hint if that fails."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StsimdiffError(f"{path} cannot be written: {error}.", hint) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _write_error(path: Path, error: Exception) -> StsimdiffError:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.ENOSPC or "os error 28" in str(error):
        return StsimdiffError(f"The disk is full: {path} was not written.", "Free some space, or write elsewhere.")
    return StsimdiffError(f"{path} cannot be written: {error}.", "Nothing was changed; choose another place.")
