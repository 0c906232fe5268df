"""The files that a command is going to write: checked before any work, and accounted for if a signal stops it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from . import output

#: What each file was before the work; None if it was not there.
_before: dict[Path, tuple[int, ...] | None] = {}


def begin() -> None:
    """Start a run anew."""
    _before.clear()


def check_outputs(paths: Iterable[Path | None], force: bool, inputs: Iterable[Path] = ()) -> None:
    """As storage.atomic.check_outputs; the files are remembered."""
    from ..storage.atomic import check_outputs

    paths = tuple(paths)
    check_outputs(paths, force, inputs)
    _before.update({path: _mark(path) for path in paths if path is not None})


def report_stopped() -> None:
    """After a signal: say which of the files are written, if any."""
    if not _before:
        return
    new = [str(path) for path, mark in _before.items() if _mark(path) != mark]
    output.note(f"Written before the end: {', '.join(new)}" if new else "Nothing was written.")


def _mark(path: Path) -> tuple[int, ...] | None:
    """What changes when a file is replaced; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
