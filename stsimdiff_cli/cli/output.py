"""Everything that is printed. The result goes to stdout; notes, hints, warnings, errors and progress to stderr."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..errors import RequestError
from ..registry import printable

stderr = Console(stderr=True, highlight=False, soft_wrap=True)
stdout = Console(highlight=False)
#: Seconds between two lines of progress if stderr is not a terminal.
LOG_SECONDS = 60.0
#: Cells to which a column of a table may be squeezed on a narrow terminal.
_LEGIBLE = 24


@dataclass
class Mode:
    """How this run talks, by the options that every command has."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False


mode = Mode()
_warnings: list[str] = []
_said: set[str] = set()


def begin(json: bool) -> None:
    """Start a run anew, before its options are read. With `json`, everything on stderr is JSON, one object a line."""
    mode.json, mode.quiet, mode.verbose = json, False, False
    _warnings.clear()
    _said.clear()


def first_time(what: str) -> bool:
    """Whether this is asked for the first time in this run, for what is to be said once."""
    new = what not in _said
    _said.add(what)
    return new


def talk(quiet: bool, verbose: bool) -> None:
    """Take --quiet and --verbose, which may stand before and after the command. RequestError for both of them."""
    mode.quiet, mode.verbose = mode.quiet or quiet, mode.verbose or verbose
    if mode.quiet and mode.verbose:
        raise RequestError("--quiet and --verbose cannot be used together.", "Leave out one of them.")


def _shown(text: str) -> str:
    """Text for rich, in which nothing is markup and no character commands the terminal."""
    return escape(printable(text, keep="\n\t"))


def _say(kind: str, style: str, text: str) -> None:
    """A line on stderr that begins with its kind."""
    if mode.json:
        stderr.out(_json_text({kind: text}, stderr.file), highlight=False)
    else:
        stderr.print(f"[{style}]{kind}:[/] {_shown(text)}")


def detail(text: str) -> None:
    """Print something that only --verbose shows."""
    if mode.verbose:
        _say("detail", "dim", text)


def note(text: str) -> None:
    """Print something worth knowing."""
    if not mode.quiet:
        _say("note", "cyan", text)


def warn(text: str) -> None:
    """Print something that the user should check, also with --quiet. It is in the `warnings` of the JSON result too."""
    _warnings.append(text)
    _say("warning", "yellow", text)


def error(text: str, hint: str | None, exit_code: int) -> None:
    """Print what went wrong and what to try."""
    if mode.json:
        data = {"error": {"message": text, "hint": hint, "exit_code": exit_code}}
        stderr.out(_json_text(data, stderr.file), highlight=False)
        return
    stderr.print(f"[bold red]error:[/] {_shown(text)}")
    if hint:
        stderr.print(f"[cyan]hint:[/] {_shown(hint)}")


def interrupted(exit_code: int) -> None:
    """Say that a signal ended the program."""
    if mode.json:
        error("interrupted", None, exit_code)
    else:
        stderr.print("interrupted")


def aside(markup: str, end: str = "\n") -> None:
    """Print a line in rich's markup that belongs to the result as a person reads it, such as a question."""
    if not (mode.quiet or mode.json):
        stderr.print(markup, end=end)


def result(text: str) -> None:
    """Print a line of the result as it is, before anything that follows on stderr."""
    print(text, flush=True)


def stream(text: str) -> None:
    """Write a piece of the result without waiting for the end of the line."""
    sys.stdout.write(text)
    sys.stdout.flush()


def result_json(data: dict[str, Any]) -> None:
    """Print one object on one line, with the warnings given since the last one. Infinite numbers become null."""
    print(_json_text({**data, "warnings": list(_warnings)}, sys.stdout), flush=True)
    _warnings.clear()


def _json_text(data: dict[str, Any], stream: IO[str]) -> str:
    """One line of JSON in what the stream can show."""
    plain = _plain(data)
    text = printable(json.dumps(plain, ensure_ascii=False, allow_nan=False))
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:  # JSON has its own escapes
        return json.dumps(plain, allow_nan=False)
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


def table(rows: list[list[str]], header: list[str], title: str | None = None) -> None:
    """Print a table to stdout.

    Off a terminal it is as wide as its cells. On a terminal, cells are broken into lines; where words would be broken
    too, columns are left out from the right, and a note names them.
    """
    if title:
        result(title)
    if not stdout.is_terminal:
        for line in _unbroken([header, *rows]):
            result(line)
        return
    count = _columns_that_fit([header, *rows], stdout.width)
    grid = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in header[:count]:
        grid.add_column(name, overflow="fold")
    for row in rows:
        grid.add_row(*(escape(cell) for cell in row[:count]))
    stdout.print(grid)
    if count < len(header):
        note(f"the terminal is too narrow for: {', '.join(header[count:])}. A wider one, or a pipe, shows everything.")


def _unbroken(lines: list[list[str]]) -> list[str]:
    """Cells in columns, each as wide as its widest cell."""
    width = [max(cell_len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return [
        "  ".join(cell + " " * (wide - cell_len(cell)) for cell, wide in zip(line, width, strict=True)).rstrip()
        for line in lines
    ]


def _columns_that_fit(lines: list[list[str]], width: int) -> int:
    """How many columns there is room for if no word is broken, and no text is squeezed below _LEGIBLE cells."""
    needed = 0
    columns = list(zip(*lines, strict=True))
    for count, column in enumerate(columns):
        word = max(cell_len(word) for cell in column for word in (cell.split() or [""]))
        needed += max(word, min(_LEGIBLE, max(map(cell_len, column)))) + 2 * bool(count)
        if needed > width and count:
            return count
    return len(columns)


def coloured(lines: list[str]) -> None:
    """Print lines in rich's markup if stdout is a terminal with colours, else nothing."""
    if shows_colours():
        for line in lines:
            stdout.print(line, soft_wrap=True)


def shows_colours() -> bool:
    """Whether stdout is a terminal with colours."""
    return stdout.is_terminal and stdout.color_system is not None and not stdout.no_color


def counted(count: int, what: str) -> str:
    """How many of something, e.g. 1 question or 2 questions."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def size(count: int) -> str:
    """A number of bytes as people write it, e.g. 1.5 MB."""
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{count} bytes" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    raise ValueError(count)


class Bar:
    """How far something long is: without a terminal, a line a minute."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def show(self, done: float, total: float, text: Callable[[], str]) -> None:  # noqa: ARG002
        """Show that `done` of `total` is done, and the text."""
        now = time.perf_counter()
        if now - self._last >= LOG_SECONDS:
            self._last = now
            note(text())


@contextmanager
def long_bar(what: str, keep: bool = True) -> Iterator[Bar]:
    """A bar with a text next to it, on a terminal; elsewhere at most one line every LOG_SECONDS.

    With `keep`, the bar stays on the screen when it has ended.
    """
    if not stderr.is_terminal or mode.quiet:
        yield Bar()
        return
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn(what), BarColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=stderr, transient=not keep) as bars:
        task = bars.add_task("", total=None)

        class OnTerminal(Bar):
            def show(self, done: float, total: float, text: Callable[[], str]) -> None:
                bars.update(task, completed=done, total=total or None, description=escape(text()))

        yield OnTerminal()


class Pace:
    """How fast things get done, counted from the first report on: what came before it was preparation."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._first: tuple[float, float] | None = None  # done, and when

    def text(self, done: float, total: float) -> str:
        """E.g. "64 of 1024 frames, 3.2 frames/s, 5:00 left"."""
        now = time.perf_counter()
        if self._first is None:
            self._first = done, now
        begun, since = self._first
        parts = [f"{done:g} of {total:g} {self._what}"]
        if done > begun and now > since:
            rate = (done - begun) / (now - since)
            parts += [f"{rate:.3g} {self._what}/s", f"{clock((total - done) / rate)} left"]
        return ", ".join(parts)


def clock(seconds: float) -> str:
    """A duration as people write it, e.g. 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def progress(what: str, total: int = 0) -> Iterator[Callable[..., None]]:
    """Show how many of `what` are done, the rate and the time left. Call with the number done, and the total."""
    pace = Pace(what)
    with long_bar(what, keep=False) as bar:

        def update(done: int, of: int = total) -> None:
            text = pace.text(done, of)
            bar.show(done, of, lambda: text)

        yield update


@contextmanager
def waiting(what: str) -> Iterator[Callable[[str], None]]:
    """Show what is being done, with how long it takes unknown. Call with something else that is being done."""
    with long_bar("", keep=False) as bar:
        bar.show(0, 0, lambda: what)
        yield lambda text: bar.show(0, 0, lambda: text)
