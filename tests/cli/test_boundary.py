"""Errors of the system are sentences; bugs are not."""

from __future__ import annotations

import errno

import pytest

from stsimdiff_cli.cli.boundary import as_sentence
from stsimdiff_cli.errors import RequestError, StsimdiffError
from tests.support.commands import refused


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "not enough memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"), "not enough"),
        (ImportError("libtorch.so: failed to map segment from shared object"), "not enough memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "not enough memory"),
        (OSError(errno.EMFILE, "Too many open files", "x"), "Too many files"),
        (ImportError("libx.so: cannot open shared object file: Too many open files"), "Too many files"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), "/x/y: Permission denied."),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found"), "No usable temporary directory"),
    ],
)
def test_what_the_system_refuses_is_a_sentence(error, words):
    assert words in str(as_sentence(error))


def test_a_name_that_is_too_long_is_a_wrong_request():
    assert isinstance(as_sentence(OSError(errno.ENAMETOOLONG, "File name too long", "x" * 5000)), RequestError)


@pytest.mark.parametrize("error", [ValueError("a bug"), RuntimeError("a bug"), OSError("a bug"), KeyError("a bug")])
def test_a_bug_is_none(error):
    assert as_sentence(error) is None


def test_a_known_error_stays_what_it_is():
    known = StsimdiffError("words")
    assert as_sentence(known) is known


def test_a_parameter_of_a_method_given_twice_is_refused(capsys, tmp_path):
    command = ("compress", "x", "-o", tmp_path / "out", "--ratio", "0.3")
    assert "tau_sim of st-simdiff is given twice" in refused(
        capsys, *command, "--method", "st-simdiff:tau_sim=0.3,tau_sim=0.4"
    )


def test_a_file_after_a_question_is_refused(capsys, kept, clip):
    assert "follows a question" in refused(capsys, "ask", kept, "What happens?", clip)
