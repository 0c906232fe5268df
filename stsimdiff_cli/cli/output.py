"""Everything that is printed. The result goes to stdout; notes, hints, warnings, errors and progress to stderr."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..registry import printable

stderr = Console(stderr=True, highlight=False, soft_wrap=True)
stdout = Console(highlight=False)
#: Seconds between two lines of progress if stderr is not a terminal.
LOG_SECONDS = 60.0


def _shown(text: str) -> str:
    """Text for rich, in which nothing is markup and no character commands the terminal."""
    return escape(printable(text, keep="\n\t"))


def note(text: str) -> None:
    """Print something worth knowing."""
    stderr.print(f"[cyan]note:[/] {_shown(text)}")


def warn(text: str) -> None:
    """Print something that the user should check."""
    stderr.print(f"[yellow]warning:[/] {_shown(text)}")


def error(text: str, hint: str | None) -> None:
    """Print what went wrong and what to try."""
    stderr.print(f"[bold red]error:[/] {_shown(text)}")
    if hint:
        stderr.print(f"[cyan]hint:[/] {_shown(hint)}")


def result(text: str) -> None:
    """Print a line of the result as it is, before anything that follows on stderr."""
    print(text, flush=True)


def stream(text: str) -> None:
    """Write a piece of the result without waiting for the end of the line."""
    sys.stdout.write(text)
    sys.stdout.flush()


def result_json(data: dict[str, Any]) -> None:
    """Print one object on one line. Numbers that are not finite become null."""
    plain = _plain(data)
    text = printable(json.dumps(plain, ensure_ascii=False, allow_nan=False))
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # JSON has its own escapes
        text = json.dumps(plain, allow_nan=False)
    print(text, flush=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


def table(rows: list[list[str]], header: list[str], title: str | None = None) -> None:
    """Print a table to stdout."""
    grid = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in header:
        grid.add_column(name, overflow="fold")
    for row in rows:
        grid.add_row(*(escape(cell) for cell in row))
    stdout.print(grid)


def coloured(lines: list[str]) -> None:
    """Print lines in rich's markup if stdout is a terminal with colours, else nothing."""
    if shows_colours():
        for line in lines:
            stdout.print(line, soft_wrap=True)


def shows_colours() -> bool:
    """Whether stdout is a terminal with colours."""
    return stdout.is_terminal and stdout.color_system is not None and not stdout.no_color


def size(count: int) -> str:
    """A number of bytes as people write it, e.g. 1.5 MB."""
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{count} bytes" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    raise ValueError(count)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar with the time left, or without a terminal a line per minute. Call with the number done."""
    if not stderr.is_terminal:
        yield _logged_progress(what, total)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr, transient=True) as bars:
        task = bars.add_task(what, total=total)
        yield lambda done: bars.update(task, completed=done)


def _logged_progress(what: str, total: int) -> Callable[[int], None]:
    """Progress for a log file: at most one line every LOG_SECONDS."""
    began = last = time.perf_counter()

    def update(done: int) -> None:
        nonlocal last
        now = time.perf_counter()
        if now - last >= LOG_SECONDS:
            last = now
            note(f"{done} of {total} {what} in {(now - began) / 60:.1f} minutes")

    return update


@contextmanager
def frame_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar with frames per second for each stage, on a terminal only. Call with (stage, done, total)."""
    if not stderr.is_terminal:
        yield lambda *_: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, console=stderr, transient=True) as bars:
        tasks: dict[str, TaskID] = {}
        spent: dict[str, float] = {}
        last = time.perf_counter()

        def update(stage: str, done: int, total: int) -> None:
            nonlocal last
            now = time.perf_counter()
            spent[stage] = spent.get(stage, 0.0) + now - last  # stages take turns
            last = now
            if stage not in tasks:
                tasks[stage] = bars.add_task(f"{stage} frames", total=total, rate="")
            bars.update(tasks[stage], completed=done, rate=f"{done / max(spent[stage], 1e-9):.0f} frames/s")

        yield update


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
def long_bar(what: str) -> Iterator[Bar]:
    """A bar with a text next to it, on a terminal; elsewhere at most one line every LOG_SECONDS."""
    if not stderr.is_terminal:
        yield Bar()
        return
    from rich.progress import BarColumn, Progress, TextColumn

    with Progress(TextColumn(what), BarColumn(), TextColumn("{task.description}"), console=stderr) as bars:
        task = bars.add_task("", total=None)

        class OnTerminal(Bar):
            def show(self, done: float, total: float, text: Callable[[], str]) -> None:
                bars.update(task, completed=done, total=total or None, description=escape(text()))

        yield OnTerminal()
