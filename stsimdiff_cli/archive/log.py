"""What happened to every item: one JSON object a line, appended to a file that one process alone writes.

The outputs are the truth about what is done; the log knows what failed, and how long everything took. Nothing depends
on the order of files. A line that is torn (the power went) is left out.

Before an item is worked on, its log says so: what was begun and not ended, in the log of a process that has ended, may
be what ended it. A process holds a lock (flock) on its log, by which others know that it is still there.
"""

from __future__ import annotations

import json
import os
import platform
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import StsimdiffError
from ..storage.stores import AnyPath, StorePath

try:
    import fcntl
except ImportError:  # Windows: no locks
    fcntl = None  # type: ignore[assignment]

FOLDER = "log"
SUCCESS, FAILED, TIMEOUT, DUPLICATE, SKIPPED = "success", "failed", "timeout", "duplicate", "skipped"
STATUSES = (SUCCESS, FAILED, TIMEOUT, DUPLICATE, SKIPPED)
#: The key of lines that are about a start of the program, not about an item.
START = "start"
#: In a store, the log is written in parts of so many lines or seconds.
PART_LINES, PART_SECONDS = 1000, 30.0
#: A process whose log in a store has not grown for so long is taken for one that has ended.
QUIET_SECONDS = 3600.0
_BLOCK = 1 << 20  # bytes of a log that are read at once
#: The keys of lines that say that an item is begun, and that it is left although there is no row for it.
BEGUN, LEFT = "begun", "left"


@dataclass(frozen=True, slots=True)
class Row:
    """What happened to one item at one attempt. What is unknown is None, and left out of the line."""

    id: str
    path: str  # the item's name
    status: str
    settings: str = ""
    stage: str | None = None  # where it failed: probe, load, decode, encode, read, select, write
    error_type: str | None = None
    error_message: str | None = None
    transient: bool | None = None  # of a failure: whether the next start tries again
    attempt: int | None = None
    seconds: dict[str, float] = field(default_factory=dict)  # of each stage
    duration: float | None = None  # of the video, in seconds
    tokens: int | None = None
    kept: int | None = None
    missing: int | None = None  # frames that could not be decoded
    bytes: int | None = None
    output: str | None = None  # relative to the folder of outputs
    of: str | None = None  # of a duplicate: the id of the item that it equals
    begin: float | None = None  # of an item that is a part of a video: its start and end, in seconds
    end: float | None = None
    size: int | None = None
    mtime_ns: int | None = None
    sha256: str | None = None
    host: str | None = None
    pid: int | None = None
    device: str | None = None
    started: str | None = None
    finished: str | None = None
    version: str = __version__

    @property
    def failed(self) -> bool:
        """Whether the item was tried, and there is no output."""
        return self.status in (FAILED, TIMEOUT)

    def line(self) -> str:
        """The row as a line of JSON."""
        return _line({name: value for name, value in asdict(self).items() if value not in (None, {})})


_NAMES = {item.name for item in fields(Row)}


def host() -> str:
    """The name of this machine, as a file name has it."""
    return re.sub(r"[^\w.-]", "_", platform.node()) or "machine"


def now() -> str:
    """The time, in UTC, to the millisecond: texts in the order of times."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Log:
    """The log file of this process in a folder of outputs; it is made with the first line."""

    def __init__(self, out: AnyPath) -> None:
        self.path = out / FOLDER / f"{host()}-{os.getpid()}-{os.urandom(3).hex()}.jsonl"
        self._file: _Appended | _Parts = _Appended(self.path) if isinstance(self.path, Path) else _Parts(self.path)
        self._open: set[str] = set()  # items that are begun

    def start(self, **about: Any) -> None:
        """Write that the program was started, and what it was asked for."""
        self._append(_line({START: now(), **about, "host": host(), "pid": os.getpid(), "version": __version__}))

    def begin(self, id_: str) -> None:
        """Write that an item is begun."""
        self._append(_line({BEGUN: now(), "id": id_}))
        self._open.add(id_)

    def leave(self, id_: str) -> None:
        """Write that an item that was begun is left as it was."""
        if id_ in self._open:
            self._open.discard(id_)
            self._append(_line({LEFT: now(), "id": id_}))

    def add(self, row: Row) -> None:
        """Write a row. It reaches the system at once, so that it outlives this process."""
        self._append(row.line())
        self._open.discard(row.id)

    def close(self) -> None:
        """Leave what is begun: it is not what ended this process. Then close the file."""
        with suppress(StsimdiffError):
            for id_ in sorted(self._open):
                self.leave(id_)
        self._written(self._file.close)

    def _append(self, line: str) -> None:
        data = line.encode("utf-8", errors="backslashreplace")
        self._written(lambda: self._file.append(data))

    def _written(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            raise StsimdiffError(
                f"{self.path} cannot be written: {error.strerror}.",
                "What is done is kept: make room, and start the same command again.",
            ) from error


class _Appended:
    """A log on this machine: a line reaches the system at once, so that it outlives this process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.handle: int | None = None

    def append(self, data: bytes) -> None:
        if self.handle is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self.handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            if fcntl is not None:
                with suppress(OSError):  # a file system without locks
                    fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        while data:
            data = data[os.write(self.handle, data) :]

    def close(self) -> None:
        if self.handle is not None:
            os.close(self.handle)
            self.handle = None


class _Parts:
    """A log in a store, which does not append: an object for every so many lines or seconds, NAME.0000.jsonl and on.

    What is not yet written is lost when this process is killed. Of an output that is known all the same; what failed
    is tried again.
    """

    def __init__(self, path: StorePath) -> None:
        self._path, self._count = path, 0
        self._lines: list[bytes] = []
        self._since = time.monotonic()

    def append(self, data: bytes) -> None:
        if not self._lines:
            self._since = time.monotonic()
        self._lines.append(data)
        if len(self._lines) >= PART_LINES or time.monotonic() - self._since >= PART_SECONDS:
            self.close()

    def close(self) -> None:
        if self._lines:
            stem = self._path.name.removesuffix(".jsonl")
            (self._path.parent / f"{stem}.{self._count:04}.jsonl").write(b"".join(self._lines))
            self._count += 1
            self._lines.clear()


@dataclass(frozen=True, slots=True)
class Start:
    """What was asked for when the program was started."""

    at: str
    items: int  # of all shards
    settings: str
    shard: str | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """An item was begun, or left."""

    id: str
    left: bool = False


def log_files(out: AnyPath) -> list[list[AnyPath]]:
    """The log of every process in a folder of outputs: a file, or in a store its parts in order."""
    folder = out / FOLDER
    logs: dict[str, list[AnyPath]] = {}
    found: Iterable[AnyPath] = folder.glob("*.jsonl") if folder.is_dir() else ()
    for path in sorted(found, key=str):
        logs.setdefault(re.sub(r"(\.\d{4,})?\.jsonl$", "", path.name), []).append(path)
    return list(logs.values())


def read_log(parts: list[AnyPath]) -> Iterator[Row | Start | Begun]:
    """The lines of a log, without those that are torn or of another kind."""
    for path in parts:
        with path.open("rb", buffering=_BLOCK) as file:
            for line in file:
                read = _read(line)
                if read is not None:
                    yield read


def _is_written(path: AnyPath) -> bool:
    """Whether the process that writes a log is still there: as locks tell, or in a store the time of the last part."""
    if isinstance(path, StorePath):
        return time.time() - path.stat().st_mtime_ns / 1e9 < QUIET_SECONDS
    if fcntl is None:
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return False


@dataclass(frozen=True)
class Folded:
    """What the log tells about a set of settings."""

    rows: dict[str, Row]  # the last row of every item, by id
    start: Start | None  # the last one
    unended: Counter[str]  # by id: how many processes began an item, and ended before it did

    def current(self) -> list[Row]:
        """The rows without those of videos that were replaced since: their successors have other ids."""
        newest: dict[tuple[str, float | None, float | None], Row] = {}
        for row in self.rows.values():
            key = (row.path, row.begin, row.end)
            if key not in newest or (row.finished or "") >= (newest[key].finished or ""):
                newest[key] = row
        return list(newest.values())


def fold(out: AnyPath, settings: str) -> Folded:
    """The last row of every item under the given settings (of two, the one that was finished later)."""
    rows: dict[str, Row] = {}
    last: Start | None = None
    unended: Counter[str] = Counter()
    for parts in log_files(out):
        begun: set[str] = set()
        for line in read_log(parts):
            if isinstance(line, Begun):
                (begun.discard if line.left else begun.add)(line.id)
                continue
            if isinstance(line, Row):
                begun.discard(line.id)
            if line.settings != settings:
                continue
            if isinstance(line, Start):
                if last is None or line.at >= last.at:
                    last = line
            elif line.id not in rows or (line.finished or "") >= (rows[line.id].finished or ""):
                rows[line.id] = line
        if begun and not _is_written(parts[-1]):
            unended.update(begun)
    return Folded(rows, last, unended)


def _read(line: bytes) -> Row | Start | Begun | None:
    if not line.endswith(b"\n"):
        return None
    try:
        content = json.loads(line)
        if not isinstance(content, dict):
            return None
        if BEGUN in content or LEFT in content:
            return Begun(content["id"], LEFT in content) if isinstance(content["id"], str) else None
        if START in content:
            return Start(content[START], int(content["items"]), content["settings"], content.get("shard"))
        row = Row(**{name: value for name, value in content.items() if name in _NAMES})
    except (ValueError, TypeError, KeyError):
        return None
    texts = (row.id, row.path, row.settings, row.finished or "")
    return row if row.status in STATUSES and all(isinstance(text, str) for text in texts) else None


def _line(content: dict[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n"
