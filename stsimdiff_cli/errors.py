"""The errors that a user may see: a sentence and a hint. Any other exception is a bug and keeps its traceback."""

from __future__ import annotations


class StsimdiffError(Exception):
    """The work failed. `hint` says what to try next; exit code 1."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class RequestError(StsimdiffError):
    """The request was wrong: an invalid option, a missing file, a file of the wrong type; exit code 2."""

    exit_code = 2


class VideoError(StsimdiffError):
    """A video cannot be opened or decoded."""


class FileFormatError(StsimdiffError):
    """A tokens or compressed file is truncated, damaged, edited, of a newer format, or not ours."""


class ModelError(StsimdiffError):
    """A checkpoint is missing, incomplete or unsupported."""
