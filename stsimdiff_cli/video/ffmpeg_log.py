"""What FFmpeg says while it works: it carries on after much damage, and tells of it in its log alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import av.logging

Message = tuple[int, str, str]  # level (lower is graver), the demuxer or decoder that wrote it, text

_lock = threading.RLock()  # a decoder may be collected as garbage, and so closed, while this is held
_listeners = 0
_threaded = 0  # decoders with threads of their own
_before: tuple[int | None, bool] = (None, True)  # PyAV's level, and whether it leaves out repeated messages


@contextmanager
def listening() -> Iterator[list[Message]]:
    """A list that FFmpeg's errors in this thread are appended to; it stays empty while a decoder is `threaded`.

    PyAV's log is global, and off by default. It is on while anybody listens, and is then left as it was found.
    """
    if not _begin():
        yield []
        return
    try:
        with av.logging.Capture() as messages:
            yield messages
    finally:
        _end()


@contextmanager
def silenced() -> Iterator[None]:
    """Keep FFmpeg's errors in this thread from being printed while its log is on because another thread listens."""
    with av.logging.Capture():
        yield


def threaded() -> bool:
    """Ask for a decoder with threads of its own; False if somebody listens. True must be ended by `not_threaded`.

    The log must be off while such a decoder lives: PyAV holds Python's lock while it waits for the decoder's threads to
    end, and they would wait for that lock to write to the log.
    """
    global _threaded
    with _lock:
        if _listeners:
            return False
        _threaded += 1
        return True


def not_threaded() -> None:
    """A decoder with threads of its own is closed."""
    global _threaded
    with _lock:
        _threaded -= 1


def _begin() -> bool:
    global _listeners, _before
    with _lock:
        if _threaded:
            return False
        if not _listeners:
            _before = av.logging.get_level(), av.logging.get_skip_repeated()
            av.logging.set_level(av.logging.ERROR)
            av.logging.set_skip_repeated(False)
        _listeners += 1
        return True


def _end() -> None:
    global _listeners
    with _lock:
        _listeners -= 1
        if not _listeners:
            level, skip_repeated = _before
            av.logging.set_level(level)
            av.logging.set_skip_repeated(skip_repeated)
