"""Files in object stores (s3://, gs:// and whatever else fsspec knows), by the part of pathlib's interface that we use.

A store has no folders, does not append, and does not rename; but what is written to it appears whole or not at all.
"""

from __future__ import annotations

import errno
import io
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

from ..errors import RequestError
from .atomic import temporary_folder

#: The extras of this package that bring the package for a kind of store.
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
#: Bytes that are fetched at once where less is asked for: most headers are shorter.
BUFFER = 1 << 16
#: What stores call the time of the last change.
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "created")


def is_url(text: str) -> bool:
    """Whether a text is an address in a store, and not a path."""
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", text) is not None


@dataclass(frozen=True)
class StorePath:
    """An address in a store. RequestError, when it is used, if the package for its kind of store is missing."""

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str | Path) -> StorePath:
        return StorePath(f"{self.url.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        """The last part."""
        return PurePosixPath(self.url).name

    @property
    def suffix(self) -> str:
        """The end of the name, with its dot."""
        return PurePosixPath(self.url).suffix

    @property
    def parent(self) -> StorePath:
        """What the last part is below."""
        return StorePath(self.url.rstrip("/").rpartition("/")[0])

    def exists(self) -> bool:
        """Whether something is there, or below it."""
        with _troubles(self.url):
            return bool(self._system.exists(self._key))

    def is_file(self) -> bool:
        """Whether there is such a file."""
        with _troubles(self.url):
            return bool(self._system.isfile(self._key))

    def is_dir(self) -> bool:
        """Whether there is anything below it."""
        with _troubles(self.url):
            return bool(self._system.isdir(self._key))

    def mkdir(self, parents: bool = True, exist_ok: bool = True) -> None:
        """Nothing: there are no folders."""

    def stat(self) -> Any:
        """Mode, size and time. OSError if there is no such file."""
        with _troubles(self.url):
            return _state(self._system.info(self._key))

    def open(self, mode: str = "rb", buffering: int = BUFFER) -> io.BufferedIOBase | io.RawIOBase:
        """The file, to be read as bytes. Only the parts that are read are transferred, each by a request of its own.

        A buffer fetches at least so many bytes at a time; with `buffering=0` there is none.
        """
        if mode != "rb":
            raise ValueError(f"expected mode 'rb', got {mode!r}")
        raw = _StoreFile(self)
        return io.BufferedReader(raw, buffering) if buffering else raw

    def read_part(self, begin: int, end: int) -> bytes:
        """The bytes from `begin` to `end`, in one request."""
        with _troubles(self.url):
            return bytes(self._system.cat_file(self._key, start=begin, end=end))

    def read_text(self, encoding: str = "utf-8") -> str:
        """The text in the file."""
        with _troubles(self.url):
            return bytes(self._system.cat_file(self._key)).decode(encoding)

    def write(self, data: bytes, new: bool = False) -> None:
        """Write the file as a whole. FileExistsError if it is to be `new` and is there, where the store can tell."""
        with _troubles(self.url):
            try:
                self._system.pipe_file(self._key, data, **({"mode": "create"} if new else {}))
            except TypeError:  # it cannot
                self._system.pipe_file(self._key, data)

    def put(self, path: Path) -> None:
        """Upload a file of this machine."""
        with _troubles(self.url):
            self._system.put_file(str(path), self._key)

    def get(self, path: Path) -> None:
        """Download it."""
        with _troubles(self.url):
            self._system.get_file(self._key, str(path))

    def glob(self, pattern: str) -> list[StorePath]:
        """The files below this address that match a pattern, in order."""
        with _troubles(self.url):
            found = self._system.glob(f"{self._key}/{pattern}", detail=True)
        return [path for path, _ in self._listed(found)]

    def below(self) -> Iterator[tuple[StorePath, Any]]:
        """Every file below this address, in order of the names, with its `stat`."""
        with _troubles(self.url):
            found = self._system.find(self._key, detail=True)
        yield from self._listed(found)

    def relative_to(self, other: StorePath) -> str | None:
        """The part of the address below another one; None if it is not below it."""
        begin = f"{other._key}/"
        return self._key.removeprefix(begin) if self._key.startswith(begin) else None

    def _listed(self, found: dict[str, Any]) -> Iterator[tuple[StorePath, Any]]:
        for key, about in sorted(found.items()):
            if about.get("type") == "file":
                yield StorePath(self._system.unstrip_protocol(key)), _state(about)

    @property
    def _system(self) -> Any:
        return _file_system(self.url)[0]

    @property
    def _key(self) -> str:
        return _file_system(self.url)[1]


class _StoreFile(io.RawIOBase):
    """A file in a store, read part by part, from its beginning or from any place in it.

    Its size is asked for before the second part, because stores refuse a part that begins at the end.
    """

    def __init__(self, path: StorePath) -> None:
        self._path, self._place = path, 0
        self._size: int | None = None
        self._begun = False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence not in (io.SEEK_SET, io.SEEK_CUR):
            raise io.UnsupportedOperation(
                "expected a place counted from the beginning, or from where the last part ended"
            )
        self._place = offset + (self._place if whence == io.SEEK_CUR else 0)
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        if self._begun and self._size is None:
            self._size = self._path.stat().st_size
        self._begun = True
        end = self._place + len(buffer) if self._size is None else min(self._place + len(buffer), self._size)
        if self._place >= end:
            return 0
        data = self._path.read_part(self._place, end)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


#: A file of this machine, or in a store.
AnyPath = Path | StorePath


def any_path(text: str) -> AnyPath:
    """The file of a path or an address."""
    return StorePath(text) if is_url(text) else Path(text)


@contextmanager
def local_copy(text: str) -> Iterator[Path]:
    """A file as one of this machine, during the block: itself, or a copy of the same name."""
    if not is_url(text):
        yield Path(text)
        return
    source = StorePath(text)
    with temporary_folder() as folder:
        source.get(folder / source.name)
        yield folder / source.name


@contextmanager
def to_write(target: AnyPath) -> Iterator[Path]:
    """A path of this machine to write a file to; if it belongs into a store, it is uploaded after the block."""
    if isinstance(target, Path):
        target.parent.mkdir(exist_ok=True)
        yield target
        return
    with temporary_folder() as folder:
        yield folder / target.name
        target.put(folder / target.name)


def _file_system(url: str) -> tuple[Any, str]:
    """fsspec's file system of an address (it keeps them), and the address in it."""
    kind = url.partition("://")[0].lower()
    try:
        import fsspec

        system, key = fsspec.core.url_to_fs(url)
    except ImportError as error:
        package = f"'stsimdiff[{EXTRAS[kind]}]'" if kind in EXTRAS else "it"
        raise RequestError(
            f"{kind}:// needs a package that is not installed ({error}).", f"pip install {package}"
        ) from error
    except ValueError as error:
        raise RequestError(
            f"{url} is in no store that is known here ({error}).", "Use s3:// or gs://, or a path."
        ) from error
    if kind in ("file", "local"):
        raise RequestError(f"{url} is on this machine.", f"Give it as a path: {key}")
    return system, str(key).rstrip("/")


def _state(about: dict[str, Any]) -> Any:
    time = next((about[name] for name in _TIMES if about.get(name) is not None), 0)
    if isinstance(time, str):
        time = datetime.fromisoformat(time)
    seconds = time.timestamp() if isinstance(time, datetime) else float(time)
    kind = stat.S_IFREG if about.get("type") == "file" else stat.S_IFDIR
    return SimpleNamespace(st_mode=kind, st_size=int(about.get("size") or 0), st_mtime_ns=int(seconds * 1e9))


@contextmanager
def _troubles(url: str) -> Iterator[None]:
    """What a store says, as errors of the system: what is missing or forbidden, or else something that may pass."""
    try:
        yield
    except (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, RequestError, TypeError):
        raise
    except Exception as error:
        raise OSError(errno.EIO, f"{url}: {(str(error).splitlines() or [type(error).__name__])[0]}") from error
