"""Out of memory, on a GPU or not, in a sentence that says what to lower."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from ...errors import StsimdiffError

#: How torch's allocators for the CPU word it: they raise plain RuntimeErrors.
_WORDS = ("can't allocate memory", "not enough memory", "DefaultCPUAllocator", "std::bad_alloc")


@contextmanager
def enough_memory(step: str, hint: str) -> Iterator[None]:
    """Within the block, StsimdiffError instead of an allocator's error; other errors stay what they are.

    `step` completes "There is not enough memory to ...". Also a decorator.
    """
    try:
        yield
    except Exception as error:
        if not out_of_memory(error):
            raise
        place = "GPU memory" if type(error).__name__ == "OutOfMemoryError" else "memory"
        raise StsimdiffError(f"There is not enough {place} to {step}.", hint) from error


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be allocated."""
    if isinstance(error, StsimdiffError):
        return False
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    import torch

    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)
    )
