"""`stsimdiff ask` about a folder: a line of JSON for every file."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.support.commands import refused, run

WHAT = "What happens in this video?"


@pytest.fixture
def folder(kept, tokens, tmp_path):
    (tmp_path / "ab").mkdir()
    shutil.copy(kept, tmp_path / "ab" / "one.safetensors")
    shutil.copy(tokens, tmp_path / "two.safetensors")
    (tmp_path / "run.json").write_text("{}")
    return tmp_path


def test_every_file_gives_a_line_with_its_answers(capsys, folder):
    code, out, err = run(capsys, "ask", folder, WHAT, "How many stars are there?", "--max-new-tokens", 3)
    assert WHAT not in err and ".safetensors" not in err  # they are in the lines
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["file"] for line in lines] == [str(folder / "two.safetensors"), str(folder / "ab" / "one.safetensors")]
    assert all(line["answers"][0]["question"] == WHAT for line in lines)
    assert all(len(line["answers"]) == 2 for line in lines)


def test_answers_are_those_for_the_file_alone(capsys, folder, kept):
    lines = [json.loads(line) for line in run(capsys, "ask", folder, WHAT, "--max-new-tokens", 4)[1].splitlines()]
    alone = run(capsys, "ask", kept, WHAT, "--max-new-tokens", 4)[1].strip()
    assert lines[1]["answers"][0]["answer"].strip() == alone


def test_a_broken_file_has_a_line_too_and_the_exit_code_says_so(capsys, folder):
    (folder / "three.safetensors").write_bytes(b"broken")
    code, out, err = run(capsys, "ask", folder, WHAT, "--max-new-tokens", 3)
    assert code == 1
    lines = [json.loads(line) for line in out.splitlines()]
    assert [sorted(line)[:2] for line in lines if "error" in line] == [["error", "file"]]
    assert "1 of 3 files failed" in err


def test_a_folder_of_nothing_is_refused(capsys, tmp_path):
    assert "nothing to ask about" in refused(capsys, "ask", tmp_path, WHAT)


def test_a_folder_without_a_question_is_refused(capsys, folder):
    assert "There is no question" in refused(capsys, "ask", folder)
