"""Writes files atomically: whole or not at all. Nothing else is left over.

A file is written under a temporary name in the folder of the output and renamed when it is whole. The writer holds a
lock on it (flock), which the system lets go when the writer ends, however it ends: so the next writer in that folder
knows which temporary files are left over from a crash, and removes them.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import shutil
import stat
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import RequestError, StsimdiffError

try:
    import fcntl
except ImportError:  # Windows: no locks, so nothing is known to be left over
    fcntl = None  # type: ignore[assignment]

#: Temporary files and folders of this process that exist, or are about to.
_live: set[Path] = set()
_SUFFIX = ".tmp"
_NAMED = 32  # characters of a path that is too long to be shown whole


# --- before the work ------------------------------------------------------------------------------------------------


def check_output(path: Path, force: bool = False, inputs: Iterable[Path] = ()) -> None:
    """Raise RequestError, before any work, for an output that must not or cannot be written.

    That is one that exists (without `force`), that is not a regular file, whose folder is missing or closed, and that
    is one of the `inputs`, under whatever name; or that exists inside an input that is a folder.
    """
    _check_kind(path)
    if os.path.lexists(path):
        for source in inputs:
            _check_apart(path, source)
        if not force:
            raise RequestError(f"{path} exists.", "Choose another name, or overwrite it with --force.")
    if not path.parent.is_dir():
        raise RequestError(f"The folder {path.parent} does not exist.", f"mkdir -p {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise RequestError(f"The folder {path.parent} cannot be written to.", "Choose another place.")
    _state(path.parent / _temporary_name())  # a path that leaves no room for it is too long


def check_outputs(paths: Iterable[Path | None], force: bool = False, inputs: Iterable[Path] = ()) -> None:
    """`check_output` for the outputs of one command, None for one not asked for: no two may be the same file."""
    seen: dict[str, Path] = {}
    inputs = list(inputs)
    for path in filter(None, paths):
        check_output(path, force, inputs)
        place = os.path.realpath(path)
        if place in seen or any(_same(path, other) for other in seen.values()):
            raise RequestError(f"{path} is named for two outputs.", "Give each output a name of its own.")
        seen[place] = path


def check_folder(path: Path, source: Path) -> None:
    """Raise RequestError if the folder for outputs is the one whose files are read."""
    _state(path)
    if _same(path, source):
        raise RequestError(f"{path} is read by this command, so nothing is written to it.", "Choose another folder.")


def _check_kind(path: Path) -> None:
    """Raise RequestError for a path that exists and cannot be replaced by a file, or that no file can have."""
    state = _state(path)
    if state is None or stat.S_ISREG(state.st_mode):
        return
    if stat.S_ISDIR(state.st_mode):
        raise RequestError(f"{path} is a folder.", "Give a file name.")
    raise RequestError(f"{path} is {kind_of(state)}, not a file.", "Give the name of a file.")


def _check_apart(path: Path, source: Path) -> None:
    if _same(path, source):
        raise RequestError(f"{path} is read by this command, so it is not overwritten.", "Choose another name.")
    if source.is_dir() and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(source)):
        raise RequestError(
            f"{path} is in {source}, which is read by this command, so it is not overwritten.", "Choose another place."
        )


def _same(one: Path, other: Path) -> bool:
    """Whether two paths lead to the same file, by links or not."""
    try:
        return one.samefile(other)
    except OSError:
        return False


def _state(path: Path) -> os.stat_result | None:
    """What is at a path, links followed; None if nothing is. RequestError if the system cannot tell."""
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RequestError(unusable(path, error), "Choose another name.") from error


def kind_of(state: os.stat_result) -> str:
    """The kind of a file that is not a regular one, in words."""
    names = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return names.get(stat.S_IFMT(state.st_mode), "something special")


def unusable(path: Path | str, error: OSError) -> str:
    """A sentence about a path that the system refuses; one that is too long is not shown whole."""
    if error.errno == errno.ENAMETOOLONG:
        text = str(path)
        shown = text if len(text) <= 3 * _NAMED else f"{text[:_NAMED]}...{text[-_NAMED:]}"
        return f"The name {shown} is too long ({len(os.fsencode(text))} bytes)."
    return f"{path} cannot be used: {error.strerror or error}."


# --- the work -------------------------------------------------------------------------------------------------------


@contextmanager
def whole_file(path: Path, failure: type[Exception] = OSError) -> Iterator[Path]:
    """A temporary path to write to. If the block succeeds, the file is flushed to disk and renamed to `path`.

    Otherwise `path` stays as it was. OSError, and the `failure` that a writer raises in its place, become
    StsimdiffError. RequestError if `path` is something else than a file.
    """
    _check_kind(path)
    try:
        remove_stale(path.parent)
        with _temporary(path.parent / _temporary_name(), _open_file, Path.unlink) as (temporary, handle):
            yield temporary
            os.fsync(handle)
            temporary.replace(path)
    except (OSError, failure) as error:
        raise _write_error(path, error) from error


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for files that nobody needs after the block."""
    place = Path(tempfile.gettempdir())
    remove_stale(place)
    with _temporary(place / _temporary_name(), _open_folder, shutil.rmtree) as (folder, _):
        yield folder


def remove_temporaries() -> None:
    """Remove the temporary files and folders of this process, which is about to end without unwinding."""
    for path in list(_live):
        with suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def save_json(path: Path, data: dict[str, Any], indent: int | None = None) -> None:
    """Write JSON atomically."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(data, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")


def append_text(path: Path, text: str, hint: str) -> None:
    """Append text to a file and flush it to disk. Raises StsimdiffError with the hint if that fails."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StsimdiffError(f"{path} cannot be written: {error}.", hint) from error


@contextmanager
def growing_folder(path: Path) -> Iterator[None]:
    """Make a folder if there is none, and keep it for this process. RequestError if another one is writing there."""
    if not path.parent.is_dir():
        raise RequestError(f"The folder {path.parent} does not exist.", f"mkdir -p {path.parent}")
    try:
        path.mkdir(exist_ok=True)
        handle = os.open(path, os.O_RDONLY) if fcntl else -1
    except OSError as error:
        raise _write_error(path, error) from error
    try:
        if not _lock(handle):
            raise RequestError(f"Another process is writing to {path}.", "Wait until it is done.")
        yield
    finally:
        if handle >= 0:
            os.close(handle)


# --- temporary files ------------------------------------------------------------------------------------------------


@contextmanager
def _temporary(path: Path, create: Any, remove: Any) -> Iterator[tuple[Path, int]]:
    """A new locked file or folder and its handle. It is removed at the end, unless it was renamed."""
    while True:
        _live.add(path)  # before it exists: a signal may come at any time
        handle = -1
        try:
            handle = create(path)
            if _lock(handle) and os.fstat(handle).st_nlink:  # else it was taken for a stale one before it was locked
                yield path, handle
                return
        except FileExistsError:
            pass
        finally:
            with suppress(FileNotFoundError):
                remove(path)
            _live.discard(path)
            if handle >= 0:
                os.close(handle)
        path = path.with_name(_temporary_name())


def _open_file(path: Path) -> int:
    """A new file with the permissions that the user's umask gives; its owner may always read and write it."""
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0), 0o666)
    path.chmod(stat.S_IMODE(os.fstat(handle).st_mode) | 0o600)
    return handle


def _open_folder(path: Path) -> int:
    path.mkdir(mode=0o700)
    path.chmod(0o700)
    return os.open(path, os.O_RDONLY) if fcntl else -1


def _lock(handle: int) -> bool:
    """Lock a file that was just created. False if somebody else has; True also where there are no locks."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def remove_stale(folder: Path) -> None:
    """Remove the temporary files and folders in `folder` whose process has ended."""
    if fcntl is None:
        return
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(_prefix()) and entry.name.endswith(_SUFFIX):
                with suppress(OSError):  # in use, another user's, or already gone
                    _remove_unlocked(Path(entry))


def _remove_unlocked(path: Path) -> None:
    """Remove a file or folder of this user that nobody has locked. OSError otherwise."""
    state = path.lstat()
    if state.st_uid != os.getuid() or not (stat.S_ISREG(state.st_mode) or stat.S_ISDIR(state.st_mode)):
        return
    folder = stat.S_ISDIR(state.st_mode)
    handle = os.open(path, os.O_NOFOLLOW | (os.O_RDONLY if folder else os.O_RDWR))
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path) if folder else path.unlink()
    finally:
        os.close(handle)


def _temporary_name() -> str:
    """A name that nobody else uses, and that is shorter than what a file may be called."""
    return f"{_prefix()}{os.urandom(8).hex()}{_SUFFIX}"


@functools.cache
def _prefix() -> str:
    """What this machine's temporary files begin with: not every network file system shares its locks with others."""
    import platform

    return f".stsimdiff-{zlib.crc32(platform.node().encode()):08x}-"


def _write_error(path: Path, error: Exception) -> StsimdiffError:
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT) or "os error 28" in str(error):
        return StsimdiffError(f"The disk is full: {path} was not written.", "Free some space, or write elsewhere.")
    if number == errno.EFBIG:
        return StsimdiffError(f"{path} would be larger than files may be here.", "See ulimit -f, or write elsewhere.")
    if number == errno.ENAMETOOLONG and isinstance(error, OSError):
        return RequestError(unusable(path, error), "Choose another name.")
    reason = (error.strerror if isinstance(error, OSError) else None) or error
    return StsimdiffError(f"{path} cannot be written: {reason}.", "Nothing was changed; choose another place.")
