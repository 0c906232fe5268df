"""A folder of files that are expensive to make, each under a key, shared by threads and processes.

    cache = DiskCache(folder, limit=20 * GB, suffix=".safetensors")
    value = cache.get(key, read=load, make=compute, write=save)      read from the folder, or made and stored now

One process makes what several want; the others wait for it. When the folder grows beyond its limit, the files that
have not been used for longest go. A cache never fails the work: what cannot be stored is a warning.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from ..errors import FileFormatError, RequestError, StsimdiffError

GB = 10**9
_ABANDONED = 24 * 3600.0  # seconds after which a lock or a half-written file is taken to be left over from a crash

Value = TypeVar("Value")


class DiskCache:
    """Files under keys in one folder, at most `limit` bytes together.

    With a limit of 0 nothing is stored and the folder is not touched. `warn` is called once for each reason why
    something cannot be stored. Raises RequestError for a negative limit, and (with `hint`) for a folder that cannot be
    created or written to.
    """

    def __init__(
        self,
        folder: str | Path,
        limit: int,
        suffix: str = "",
        warn: Callable[[str], None] = warnings.warn,
        hint: str = "Choose another folder, or a size of 0 for no cache.",
    ) -> None:
        if limit < 0:
            raise RequestError(f"A cache of {limit} bytes is not possible.", "Give a size above 0, or 0 for no cache.")
        self.folder = Path(folder).expanduser()
        self.limit = limit
        self.suffix = suffix
        self._warn = warn
        self._warned: set[str] = set()
        if limit:
            self._create_folder(hint)

    def get(
        self,
        key: str,
        read: Callable[[Path], Value],
        make: Callable[[], Value],
        write: Callable[[Path, Value], int],
    ) -> Value:
        """The value stored under `key`, or the one that `make` returns, which is then stored.

        `read` raises FileFormatError for a damaged file, which is made again. `write` creates the file atomically and
        returns its size in bytes. Errors of `make` are raised as they are, and nothing is stored.
        """
        if not self.limit:
            return make()
        file = self.folder / f"{key}{self.suffix}"
        stored = self._read(file, read)
        if stored is not None:
            return stored
        with self._locked(key):
            stored = self._read(file, read)  # another process may have made it while this one waited
            if stored is not None:
                return stored
            made = make()
            self._store(file, made, write)
            return made

    def _read(self, file: Path, read: Callable[[Path], Value]) -> Value | None:
        """The value in a file, which becomes the most recently used; None if it is missing or damaged."""
        try:
            with suppress(PermissionError):  # the file belongs to another user
                os.utime(file)
            return read(file)
        except FileNotFoundError:
            return None
        except (FileFormatError, RequestError, OSError) as error:  # RequestError: it was removed meanwhile
            if file.exists():
                self._warn_once("damaged", f"A damaged file of the cache is made again: {error}")
            return None

    def _store(self, file: Path, value: Value, write: Callable[[Path, Value], int]) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)  # somebody may have deleted the cache
            size = write(file, value)
        except (StsimdiffError, OSError) as error:
            self._warn_once("unwritable", f"The cache stores no new files: {error}")
            return
        if size > self.limit:
            file.unlink(missing_ok=True)
            self._warn_once(
                "large", f"A file of {size / GB:.3g} GB is larger than the cache ({self.limit / GB:.3g} GB)."
            )
        else:
            self._shrink(file)

    def _shrink(self, newest: Path) -> None:
        """Remove the least recently used files until the rest is within the limit, and what crashes left over."""
        now, files = time.time(), []
        for entry in _entries(self.folder):
            with suppress(OSError):  # removed meanwhile, or (on Windows) in use
                state = entry.stat()
                if entry.name.endswith((".lock", ".tmp")):
                    if now - state.st_mtime > _ABANDONED:
                        Path(entry).unlink()
                elif entry.name.endswith(self.suffix):
                    files.append((state.st_mtime_ns, state.st_size, Path(entry)))
        total = sum(size for _, size, _ in files)
        for _, size, file in sorted(files):
            if total <= self.limit:
                break
            if file != newest:
                with suppress(OSError):
                    file.unlink()
                    total -= size

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        """One process at a time for each key; all at once on a file system without locks: files appear whole."""
        from filelock import FileLock

        with ExitStack() as locks:
            try:
                locks.enter_context(FileLock(self.folder / f"{key}.lock"))
            except (OSError, NotImplementedError) as error:
                self._warn_once("lock", f"Processes that share the cache may do the same work twice: {error}")
            yield

    def _create_folder(self, hint: str) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RequestError(f"The cache {self.folder} cannot be created: {error.strerror}.", hint) from error
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise RequestError(f"The cache {self.folder} cannot be written to.", hint)

    def _warn_once(self, reason: str, text: str) -> None:
        if reason not in self._warned:
            self._warned.add(reason)
            self._warn(text)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []
