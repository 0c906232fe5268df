"""A short run of the machine against files' headers, and the edits that once went wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile.headers import Edit, Whole, edit_trial, failure_of, make_files, trials

#: Edits that ended in a traceback or in gigabytes of memory: file, place, JSON text (None: removed).
ONCE = (
    ("kept", "header.grid.layout.between", "[[1000000000, [1]]]"),
    ("even", "header.grid.layout.between", "[[1000000000, [1]]]"),
    ("kept", "header.grid.layout.between", "[[72, [1]], [36, [1]]]"),
    ("kept", "header.grid.layout.between", "[[36, [3]], [72, [4, 5]]]"),
    ("kept", "header.grid.layout.before", "[1, 2]"),
    ("kept", "header.grid.layout.after", "[2147483647]"),
    ("even", "header.grid.shape", "[4, 1000000, 1000000]"),
    ("even", "header.grid.shape", "[1000000, 6, 6]"),
    ("tokens", "header.grid.shape", "[4, 6, 1000000000]"),
    ("kept", "header.grid.seconds", "[3, 2, 1, 0]"),
    ("kept", "header.grid.seconds", "[0, 1, 2, Infinity]"),
    ("kept", "header.grid.seconds", "[0, 1, 2, 1e999]"),
    ("kept", "header.grid.source.name", '"\\udcff.mp4"'),
    ("kept", "header.grid.source.name", '"\\ud800.mp4"'),
    ("kept", "header.grid.source.name", '"\\u001b[31m"'),
    ("kept", "header.grid.source.name", '"../../etc/passwd"'),
    ("kept", "header.grid.source.name", '"$\\\\frac$"'),
    ("kept", "header.grid.source.height", "0"),
    ("kept", "header.grid.source.height", "65536"),
    ("kept", "header.grid.coverage.blank_columns", "6"),
    ("kept", "header.versions", None),
    ("kept", "header.checksums", "{}"),
    ("kept", "header.counts.largest_community", None),
    ("kept", "header.method.parameters", "[" * 900 + "]" * 900),
    ("kept", "header.method.ratio", "0.1"),
    ("tokens", "header", "[" * 100000 + "]" * 100000),
    ("tokens", "tensors.features.shape", "[0, 9223372036854775807]"),
    ("tokens", "tensors.saliency.data_offsets", "[0, 576]"),
)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Whole]:
    return {whole.path.stem: whole for whole in make_files(tmp_path_factory.mktemp("files"))}


def test_files_that_nobody_touched_are_read_by_every_command(files, tmp_path):
    """Else a machine that breaks every file would find nothing wrong."""
    for whole in files.values():
        said = failure_of(whole.path.read_bytes(), whole, tmp_path, lambda _: True, pictures=False)
        assert said == "inspect succeeds"
        assert failure_of(whole.path.read_bytes(), whole, tmp_path, lambda command: command == "ask") == "ask succeeds"


@pytest.mark.parametrize(("file", "place", "text"), ONCE)
def test_what_once_went_wrong_is_refused_or_works(files, tmp_path, file, place, text):
    whole = files[file]
    for sealed in (True, False):
        trial = edit_trial(whole, [Edit(tuple(place.split(".")), text)], sealed, tmp_path)
        assert trial.failure is None, trial


def test_a_short_run_finds_nothing(tmp_path: Path):
    failed = [trial for trial in trials(5, tmp_path, 30) if trial.failure]
    assert failed == []
