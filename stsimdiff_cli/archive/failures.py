"""What a failure means: the same again next time, perhaps not, or that nothing else would work either."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import ModelError, RequestError, StsimdiffError
from ..models.loading.memory import out_of_memory

#: What the system says when it may say something else a moment later.
_WORDS = """EIO EAGAIN EINTR EBUSY ENOMEM EMFILE ENFILE ESTALE ETIMEDOUT ECONNRESET ECONNABORTED EHOSTDOWN EHOSTUNREACH
    ENETDOWN ENETUNREACH EREMOTEIO ENOLCK ENOTCONN"""
_PASSING = {number for number, name in errno.errorcode.items() if name in _WORDS.split()}
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


@dataclass(frozen=True)
class Failure:
    """A failure in the words of the log. `transient`: it may not happen again, so it is worth another attempt."""

    type: str
    message: str  # its first line
    transient: bool


class LateError(Exception):
    """An item took longer than it may."""


class LostError(Exception):
    """A process that worked for an item ended before its time."""


class RemoteError(StsimdiffError):
    """A failure in another process."""

    def __init__(self, failure: Failure, hint: str | None = None) -> None:
        super().__init__(failure.message, hint)
        self.failure = failure


def failure_of(error: BaseException) -> Failure:
    """What is written down about an error.

    Worth another attempt are: memory used up, a device or a network that failed, a process that was killed, and a time
    limit. Everything else (a file that cannot be read, a part that is not in it, a bug) would happen again.
    """
    if isinstance(error, RemoteError):
        return error.failure
    lines = str(error).strip().splitlines()
    return Failure(type(error).__name__, lines[0] if lines else "", _transient(error))


def _transient(error: BaseException) -> bool:
    if isinstance(error, LateError | LostError):
        return True
    for cause in _chain(error):
        if out_of_memory(cause) or type(cause).__name__ == "OutOfMemoryError":
            return True
        if isinstance(cause, OSError) and cause.errno in _PASSING:
            return True
    return False


def ends_the_run(error: BaseException, stage: str, own_model: bool) -> bool:
    """Whether every other item would fail in the same way: the disk is full, or the model cannot be loaded.

    `own_model`: the item brings its own model (it is a tokens file), so that others may have a better one.
    """
    if any(isinstance(cause, OSError) and cause.errno in _FULL for cause in _chain(error)):
        return True
    return stage == "load" and not own_model and isinstance(error, ModelError | RequestError | StsimdiffError)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__
