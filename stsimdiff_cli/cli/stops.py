"""Ctrl-C, SIGTERM and SIGHUP: all end the program in the same way, leaving nothing over.

The first one raises Stopped in the main thread, so that what is open is closed and removed on the way out. While that
goes on, others are waited out: `timeout` and batch systems like to send several. A signal that comes more than PATIENCE
seconds later ends the program at once, but temporary files are removed even then. A signal that is ignored (nohup)
stays ignored.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import contextmanager, suppress

TYPE_CHECKING = False  # type checkers take it for true; typing itself is not imported, see __main__.py
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType
    from typing import Any

#: The signals that stop the program, as far as the system has them.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
PATIENCE = 2.0  # seconds for an orderly end, before another signal makes a short one
_AGAIN = 0.2  # seconds between two looks at whether the exception was lost


class Stopped(BaseException):
    """Somebody wants the program to end. Not an Exception: nothing may take it for a failure and go on."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


class _Handling:
    """The handlers of this process and what they replaced."""

    def __init__(self) -> None:
        self.first: int | None = None  # the signal that came first, and when
        self.since = 0.0
        self.finished = False  # nothing is left to do but to exit
        self.replaced: dict[int, Any] = {}
        self.hook = sys.unraisablehook

    def install(self) -> None:
        for number in SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                self.replaced[number] = signal.signal(number, self.handle)
        sys.unraisablehook = self.unraisable

    def restore(self) -> None:
        self.settle()
        for number, handler in self.replaced.items():
            signal.signal(number, handler)
        sys.unraisablehook = self.hook

    def handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self.finished:
            end_now(128 + number)
        if self.first is not None:
            if time.monotonic() - self.since > PATIENCE:
                end_now(128 + self.first)
            return
        self.first, self.since = number, time.monotonic()
        if hasattr(signal, "setitimer"):
            self.replaced.setdefault(signal.SIGALRM, signal.signal(signal.SIGALRM, self.insist))
            signal.setitimer(signal.ITIMER_REAL, _AGAIN, _AGAIN)
        raise Stopped(number)

    def insist(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Raise the exception again if it was lost: C code drops what is raised in some of its callbacks."""
        error = sys.exc_info()[1]
        while error is not None:
            if isinstance(error, Stopped):
                return  # it is on its way out
            error = error.__context__
        if self.first is not None:
            raise Stopped(self.first)

    def settle(self) -> None:
        """The exception has arrived where it should: do not raise it again."""
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)

    def unraisable(self, unraisable: Any) -> None:
        """What Python cannot raise it prints; Stopped is raised again soon instead."""
        if not isinstance(unraisable.exc_value, Stopped):
            self.hook(unraisable)


_handling: _Handling | None = None


@contextmanager
def stoppable() -> Iterator[None]:
    """Stopped is raised in the block when a signal comes. Signals that were handled otherwise are so again after it.

    Inside another such block, and in any thread but the main one, nothing changes.
    """
    import threading

    global _handling
    if _handling is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    _handling = _Handling()
    try:
        _handling.install()
        yield
    finally:
        _handling.restore()
        _handling = None


def install() -> None:
    """As `stoppable`, for the rest of the process."""
    global _handling
    _handling = _Handling()
    _handling.install()


def settle() -> None:
    """To be called where Stopped is caught for good, inside the `except`."""
    if _handling is not None:
        _handling.settle()


def finish() -> None:
    """The work is done or given up. After a signal the process ends here; one that comes now ends it at once.

    The interpreter's own exit waits for threads, and those of a video encoder that was stopped may never end.
    """
    if _handling is not None:
        _handling.settle()
        _handling.finished = True
        if _handling.first is not None:
            end_now(128 + _handling.first)


def end_now(code: int) -> None:
    """End without unwinding and without waiting for threads, but remove temporary files."""
    atomic = sys.modules.get("stsimdiff_cli.storage.atomic")  # not imported: nothing was written
    with suppress(Exception):
        if atomic is not None:
            atomic.remove_temporaries()
    os._exit(code)
