"""stdin, stdout and stderr as the program finds them: open or closed, in any encoding, on a full disk or a closed pipe.

What cannot be written to stdout is an error with a sentence, for the result is lost. What cannot be written to stderr
is dropped: a note that cannot be shown does not fail the work. Characters that the encoding lacks are written as
escapes.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import Any


def prepare() -> None:
    """Set up the three streams of the process."""
    for number, flags in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDONLY)):
        _occupy(number, flags)
    sys.stdin = io.TextIOWrapper(io.BufferedReader(_Stdin(0, "rb", closefd=False)), **_question_encoding(sys.stdin))
    sys.stdout = _text(_Stdout(1, "wb", closefd=False), sys.stdout)
    sys.stderr = _text(_Stderr(2, "wb", closefd=False), sys.stderr)


def finish(code: int) -> int:
    """Write out what is still buffered and return the exit code: `code`, or 1 if stdout takes no more."""
    from ..errors import StsimdiffError

    try:
        sys.stdout.flush()
    except StsimdiffError as error:
        from . import output

        code = code or 1
        output.error(str(error), error.hint, code)
    except BrokenPipeError:
        code = code or 1
    sys.stderr.flush()
    return code


def drop_stdout() -> None:
    """Let the rest of stdout go nowhere: its reader has gone, or its disk is full."""
    handle = os.open(os.devnull, os.O_WRONLY)
    os.dup2(handle, 1)
    os.close(handle)


def _occupy(number: int, flags: int) -> None:
    """Keep the next file that is opened from taking the place of a closed stream; to use it fails as before."""
    try:
        os.fstat(number)
    except OSError:
        handle = os.open(os.devnull, flags)  # the lowest free number, so this very one
        if handle != number:
            os.dup2(handle, number)
            os.close(handle)
        os.set_inheritable(number, True)


def _as(stream: Any, errors: str) -> dict[str, Any]:
    """The encoding of a stream, and what is done with characters that it lacks."""
    return {"encoding": getattr(stream, "encoding", None) or "utf-8", "errors": errors}


def _question_encoding(stream: Any) -> dict[str, Any]:
    """As for any stream, but what is read as ASCII may as well be read as UTF-8."""
    chosen = _as(stream, "surrogateescape")
    return chosen | {"encoding": "utf-8"} if codecs.lookup(chosen["encoding"]).name == "ascii" else chosen


def _text(raw: io.FileIO, stream: Any) -> io.TextIOWrapper:
    lines = isinstance(raw, _Stderr) or raw.isatty()
    return io.TextIOWrapper(io.BufferedWriter(raw), line_buffering=lines, **_as(stream, "backslashreplace"))


class _Stdin(io.FileIO):
    def readinto(self, buffer: Any) -> int | None:
        try:
            return super().readinto(buffer)
        except OSError as error:
            from ..errors import RequestError

            raise RequestError(
                f"stdin cannot be read: {error.strerror}.", "Write the question on the command line."
            ) from error


class _Stdout(io.FileIO):
    def write(self, data: Any) -> int | None:  # type: ignore[override]
        try:
            return super().write(data)
        except BrokenPipeError:
            drop_stdout()
            raise
        except OSError as error:
            from ..errors import StsimdiffError

            drop_stdout()  # so that what is buffered does not fail again at the end
            hint = "Send it elsewhere. Files that were written are whole."
            raise StsimdiffError(f"The result cannot be written to stdout: {error.strerror}.", hint) from error


class _Stderr(io.FileIO):
    def write(self, data: Any) -> int | None:  # type: ignore[override]
        try:
            return super().write(data)
        except OSError:
            return len(data)
