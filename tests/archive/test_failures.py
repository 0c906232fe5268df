"""Which failures are worth another attempt, and which end the run."""

from __future__ import annotations

import errno

import pytest
import torch

from stsimdiff_cli.archive.failures import LateError, LostError, RemoteError, ends_the_run, failure_of
from stsimdiff_cli.errors import FileFormatError, ModelError, RequestError, StsimdiffError, VideoError


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


PASSING = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    OSError(errno.EIO, "Input/output error"),
    OSError(errno.ESTALE, "Stale file handle"),
    caused(StsimdiffError("There is not enough memory to encode the video."), MemoryError()),
    caused(VideoError("cannot be read"), OSError(errno.EIO, "Input/output error")),
    LateError("It took too long."),
    LostError("The process was killed."),
]
LASTING = [
    VideoError("'a.mp4' is empty (0 bytes)."),
    RequestError("The start of 9 s is after the end of the clip."),
    FileFormatError("damaged"),
    caused(VideoError("not a video"), ValueError("Invalid data found")),
    caused(RequestError("There is no file"), FileNotFoundError(errno.ENOENT, "No such file")),
    ZeroDivisionError("a bug"),
]


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_another_attempt_may_do_better(error):
    assert failure_of(error).transient
    assert failure_of(RemoteError(failure_of(error))) == failure_of(error), "also if it happened in another process"


@pytest.mark.parametrize("error", LASTING, ids=repr)
def test_another_attempt_would_end_the_same(error):
    assert not failure_of(error).transient


def test_a_message_is_one_line():
    assert failure_of(ValueError("first\nsecond")).message == "first"
    assert failure_of(ValueError()).message == ""


@pytest.mark.parametrize(("error", "stage", "own_model", "ends"), [
    (caused(StsimdiffError("The disk is full"), OSError(errno.ENOSPC, "No space")), "write", False, True),
    (ModelError("lacks weights"), "load", False, True),
    (ModelError("lacks weights"), "load", True, False),
    (VideoError("damaged"), "decode", False, False),
    (StsimdiffError("not enough memory"), "encode", False, False),
])  # fmt: skip
def test_only_what_would_meet_every_item_ends_the_run(error, stage, own_model, ends):
    assert ends_the_run(error, stage, own_model) is ends
