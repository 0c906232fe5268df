"""Turns errors into sentences: those that are meant for the user, and those of the system that are nobody's bug."""

from __future__ import annotations

import errno
import os

from ..errors import RequestError, StsimdiffError

#: What the system says when memory, or the right to more of it, is used up; torch and the linker pass it on as text.
_NO_MEMORY = ("can't allocate memory", "Cannot allocate memory", "failed to map segment", "std::bad_alloc")
_NO_FILES = "Too many open files"


def as_sentence(error: BaseException) -> StsimdiffError | None:
    """The error as the user should see it; None for a bug, which keeps its traceback."""
    if isinstance(error, StsimdiffError):
        return error
    if _is_memory(error):
        return StsimdiffError(
            "There is not enough memory.", "Use fewer --frames or a smaller model, or see ulimit -v and free memory."
        )
    if (isinstance(error, OSError) and error.errno == errno.EMFILE) or _NO_FILES in str(error):
        return StsimdiffError("Too many files are open.", "Allow more, e.g. ulimit -n 1024")
    if isinstance(error, OSError) and error.errno is not None:
        return _of_system(error)
    return None


def _is_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # the latter: torch's, of a GPU
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError | ImportError | OSError) and any(text in str(error) for text in _NO_MEMORY)


def _of_system(error: OSError) -> StsimdiffError:
    """What the system refused, and about which file."""
    from ..storage.atomic import unusable

    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else None
    if error.errno == errno.ENAMETOOLONG and name:
        return RequestError(unusable(name, error), "Check the name.")
    reason = error.strerror or str(error)
    debug = "STSIMDIFF_DEBUG=1 shows where this happened."
    return StsimdiffError(f"{name}: {reason}." if name else f"The system refused: {reason}.", debug)
