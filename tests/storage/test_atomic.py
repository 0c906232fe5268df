"""Outputs replace nothing that they should not, and temporary files go, whoever leaves them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stsimdiff_cli.errors import RequestError, StsimdiffError
from stsimdiff_cli.storage import atomic
from stsimdiff_cli.storage.atomic import check_output, check_outputs, temporary_folder, whole_file
from stsimdiff_cli.storage.regular import check_file

#: Leaves a temporary file in the folder named on the command line, as a process that is killed does.
KILLED = """
import os, sys
from pathlib import Path
from stsimdiff_cli.storage.atomic import whole_file
with whole_file(Path(sys.argv[1]) / "out") as temporary:
    temporary.write_text("half")
    print(temporary.name, flush=True)
    sys.stdin.read() if len(sys.argv) > 2 else os.kill(os.getpid(), 9)
"""


def write(path: Path, text: str = "new") -> None:
    with whole_file(path) as temporary:
        temporary.write_text(text)


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_an_input_is_not_an_output_by_any_name(link, tmp_path):
    source, other = tmp_path / "video", tmp_path / "other"
    source.write_text("video")
    link(source, other)
    for path in (source, other):
        with pytest.raises(RequestError, match="not overwritten"):
            check_output(path, force=True, inputs=[source])


def test_what_is_in_a_folder_that_is_read_stays(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    with pytest.raises(RequestError, match="not overwritten"):
        check_output(tmp_path / "model" / "config.json", True, [tmp_path / "model"])
    check_output(tmp_path / "model" / "new", True, [tmp_path / "model"])


def test_two_outputs_are_two_files(tmp_path):
    check_outputs([tmp_path / "a", None, tmp_path / "b"])
    (tmp_path / "folder").mkdir()
    with pytest.raises(RequestError, match="two outputs"):
        check_outputs([tmp_path / "a", tmp_path / "folder" / ".." / "a"])


def test_a_pipe_is_neither_replaced_nor_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for refuse in (lambda path: check_output(path, True), write, check_file):
        with pytest.raises(RequestError, match="is a pipe"):
            refuse(tmp_path / "pipe")


def test_a_link_that_leads_nowhere_exists(tmp_path):
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(RequestError, match="exists"):
        check_output(tmp_path / "link")


@pytest.mark.parametrize("name", ["n" * 256, "n" * 5000, "folder/" * 800])
def test_a_name_that_is_too_long_is_refused_with_its_ends(name, tmp_path):
    for refuse in (check_output, check_file):
        with pytest.raises(RequestError, match="too long") as error:
            refuse(tmp_path / name)
        assert len(str(error.value)) < 500


def test_the_longest_name_can_be_written(tmp_path):
    check_output(tmp_path / ("n" * 255))
    write(tmp_path / ("n" * 255))
    assert [path.name for path in tmp_path.iterdir()] == ["n" * 255]


def test_the_umask_decides_but_the_owner_may_read(tmp_path):
    for mask, mode in ((0o022, 0o644), (0o077, 0o600), (0o777, 0o600)):
        before = os.umask(mask)
        try:
            write(tmp_path / "out")
        finally:
            os.umask(before)
        assert (tmp_path / "out").stat().st_mode & 0o777 == mode


def test_a_failure_leaves_what_was_there(tmp_path):
    write(tmp_path / "out", "old")
    with pytest.raises(StsimdiffError, match="cannot be written"), whole_file(tmp_path / "out") as temporary:
        temporary.write_text("half")
        raise OSError(5, "Input/output error")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]
    assert not atomic._live


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path):
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True).returncode == -9
    assert len(list(tmp_path.iterdir())) == 1  # the second one has removed that of the first
    write(tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_the_file_of_a_writer_that_goes_on_is_left_alone(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path), "wait"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        name = writer.stdout.readline().strip()
        write(tmp_path / "other")
        assert {path.name for path in tmp_path.iterdir()} == {name, "other"}
    assert {path.name for path in tmp_path.iterdir()} == {"out", "other"}


def test_files_that_others_left_stay(tmp_path):
    others = [".out.abc.tmp", ".stsimdiff-00000000-0123456789abcdef.tmp", f"{atomic._prefix()}1.txt"]
    for name in others:
        (tmp_path / name).write_text("")
    write(tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, "out"])


def test_a_temporary_folder_goes_with_its_content(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic.tempfile, "gettempdir", lambda: str(tmp_path))
    (stale := tmp_path / atomic._temporary_name()).mkdir()
    with temporary_folder() as folder:
        (folder / "file").write_text("")
        assert [path.name for path in tmp_path.iterdir()] == [folder.name] != [stale.name]
    assert list(tmp_path.iterdir()) == []


def test_an_end_without_ceremony_removes_them_too(tmp_path):
    with pytest.raises(StsimdiffError), whole_file(tmp_path / "out") as temporary:
        temporary.write_text("half")
        atomic.remove_temporaries()
        assert list(tmp_path.iterdir()) == []
