"""Damaged checkpoints: whatever goes wrong while one is read or run is a sentence about the checkpoint.

transformers, tokenizers, safetensors, Jinja and torch raise dozens of types for files that are not as they should be.
All the places where a checkpoint's content is interpreted are inside one of the two blocks of this file, which
turn any of them into a ModelError. The original error stays its cause, so STSIMDIFF_DEBUG=1 shows it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import ModelError, StsimdiffError
from .memory import out_of_memory

_AGAIN = "Download it again."
#: What a model raises if its configuration does not fit its weights. Not OSError: answers are printed meanwhile.
_RUNNING = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
#: How a pointer begins that Git leaves in the place of a large file.
_POINTER = b"version https://git-lfs"
_LONGEST = 200  # characters of a foreign error that are shown


@contextmanager
def reading(what: str, hint: str = _AGAIN) -> Iterator[None]:
    """Within the block, files of a checkpoint are read: ModelError if that fails. `what` begins the sentence."""
    try:
        yield
    except StsimdiffError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        raise ModelError(f"{what} cannot be used: {reason(error)}.", hint) from error


def refuse_pointer(path: Path, model: str) -> None:
    """ModelError for a file in whose place Git left a pointer, as a clone without Git LFS does."""
    with path.open("rb") as file:
        pointer = file.read(len(_POINTER)) == _POINTER
    if pointer:
        raise ModelError(
            f"{path.name} of the checkpoint {model} is a Git LFS pointer, not the file itself.",
            f"In {path.parent}: git lfs pull",
        )


@contextmanager
def running(model: str, embedded: bool) -> Iterator[None]:
    """Within the block, a loaded model computes: ModelError if that fails.

    An embedded model is never damaged: if it fails, that is a bug and keeps its traceback.
    """
    try:
        yield
    except _RUNNING as error:
        if embedded or isinstance(error, UnicodeError) or out_of_memory(error):
            raise
        raise ModelError(
            f"The model {model} cannot be run: {reason(error)}.",
            "Its configuration may not fit its weights: download it again. STSIMDIFF_DEBUG=1 shows where it fails.",
        ) from error


def reason(error: BaseException) -> str:
    """A foreign error in a few words, without a full stop."""
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    words = " ".join(str(error).split())
    if not words:
        return type(error).__name__
    return (words if len(words) <= _LONGEST else words[:_LONGEST] + " ...").rstrip(".")
