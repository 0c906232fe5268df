"""`stsimdiff ask`: where answers go, where questions come from, and what is refused."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from stsimdiff_cli.cli.timeline import timeline
from stsimdiff_cli.synthetic import looks_rendered
from tests.support.checkpoints import CHECKPOINTS
from tests.support.commands import refused, run

WHAT, HOW_MANY = "What happens in this video?", "How many stars are there?"


class Terminal(io.StringIO):
    """Text that is typed at a terminal."""

    def isatty(self) -> bool:
        return True


# --- Answers ----------------------------------------------------------------------------------------------------------


def test_answers_go_to_stdout_and_nothing_else_does(capsys, kept):
    code, out, _ = run(capsys, "ask", kept, HOW_MANY, "--max-new-tokens", 4)
    assert code == 0
    assert len(out.splitlines()) == 1 and out.strip()


def test_several_questions_equal_the_same_questions_alone(capsys, kept):
    together = run(capsys, "ask", kept, HOW_MANY, WHAT, "--max-new-tokens", 6)[1].splitlines()
    alone = [run(capsys, "ask", kept, question, "--max-new-tokens", 6)[1].strip() for question in (HOW_MANY, WHAT)]
    assert together == alone


def test_a_video_is_answered_like_its_tokens(capsys, tokens, clip):
    code, whole, _ = run(capsys, "ask", tokens, HOW_MANY, "--max-new-tokens", 4)
    assert code == 0
    assert run(capsys, "ask", clip, HOW_MANY, "--frames", 8, "--max-new-tokens", 4)[:2] == (0, whole)


def test_the_json_report_counts_the_kept_tokens_of_the_prompt(capsys, kept):
    data = json.loads(run(capsys, "ask", kept, HOW_MANY, "--json", "--max-new-tokens", 4)[1])
    assert data["kept"] < data["tokens"]
    assert data["kept"] < data["answers"][0]["prompt_tokens"] < data["tokens"]


# --- Questions --------------------------------------------------------------------------------------------------------


def test_questions_come_from_stdin_one_a_line(capsys, kept, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{HOW_MANY}\n\n{WHAT}\n"))
    code, out, _ = run(capsys, "ask", kept, "-", "--json", "--max-new-tokens", 4)
    assert code == 0
    assert [answer["question"] for answer in json.loads(out)["answers"]] == [HOW_MANY, WHAT]


def test_a_question_from_a_pipe_is_answered_before_the_next_is_read(capsys, kept, monkeypatch):
    class Pipe(io.StringIO):
        def readline(self, *size):
            said.append(capsys.readouterr().out)
            return super().readline(*size)

    said: list[str] = []
    monkeypatch.setattr(sys, "stdin", Pipe(f"{HOW_MANY}\n{WHAT}\n"))
    assert run(capsys, "ask", kept, "-", "--max-new-tokens", 4)[0] == 0
    assert said[0] == "" and said[1] and said[2]


def test_a_terminal_without_a_question_gets_a_prompt(capsys, kept, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Terminal(f"{HOW_MANY}\n"))
    code, out, err = run(capsys, "ask", kept, "--max-new-tokens", 4)
    assert code == 0
    assert len(out.splitlines()) == 1
    assert "Ctrl-D" in err


def test_the_prompt_works_with_one_file_only(capsys, kept, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Terminal(""))
    assert "one file only" in refused(capsys, "ask", kept, kept)


def test_no_question_and_no_terminal_is_refused(capsys, kept, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert "There is no question" in refused(capsys, "ask", kept)


@pytest.mark.parametrize("question", ["What happens in this video? " * 50, "a/" * 3000])
def test_a_question_that_can_be_no_file_name_is_a_question(capsys, kept, question):
    code, out, _ = run(capsys, "ask", kept, question, "--max-new-tokens", "1")
    assert code == 0
    assert len(out.splitlines()) == 1


def test_unknown_words_get_a_hint_with_questions_that_work(capsys, kept):
    code, _, err = run(capsys, "ask", kept, "Why does the dog bark?", "--max-new-tokens", 4)
    assert code == 0
    assert "'dog'" in err
    assert WHAT in err


def test_the_hint_with_questions_is_given_once(capsys, kept):
    err = run(capsys, "ask", kept, "Why does the dog bark?", "Why does the cat?", "--max-new-tokens", 2)[2]
    assert "'dog'" in err and "'cat'" in err and err.count("it can answer questions such as") == 1


# --- Videos that the embedded model does not know ---------------------------------------------------------------------


MADE_UP = "is made up"


def test_answers_about_another_video_than_a_rendered_clip_are_marked(capsys, kept, tokens):
    code, _, err = run(capsys, "ask", kept, WHAT, HOW_MANY, "--max-new-tokens", 2)
    assert code == 0 and err.count(MADE_UP) == 1 and "--model" in err
    for args in (("ask", kept, WHAT, "--max-new-tokens", 2), ("inspect", kept), ("inspect", tokens)):
        (warning,) = json.loads(run(capsys, *args, "--json")[1])["warnings"]
        assert MADE_UP in warning and "clip.mp4" in warning


def test_a_rendered_clip_is_not_warned_about(capsys, tmp_path):
    clip = Path(__file__).parents[2] / "sample_videos" / "flash.mp4"
    assert run(capsys, "encode", clip, "-o", tmp_path / "t", "--frames", 2)[2] == ""
    assert json.loads(run(capsys, "inspect", tmp_path / "t", "--json")[1])["warnings"] == []


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [(96, 96, True), (192, 192, True), (224, 224, True), (640, 360, False), (100, 100, False)],
)
def test_rendered_clips_are_small_squares(width, height, expected):
    assert looks_rendered(width, height) == expected


# --- Several files ----------------------------------------------------------------------------------------------------


def test_several_files_load_the_llm_once(capsys, kept, tokens, monkeypatch):
    from stsimdiff_cli.models.inference import language_model

    loaded, real = [], language_model.load_language
    monkeypatch.setattr(language_model, "load_language", lambda *args: loaded.append(args) or real(*args))
    assert run(capsys, "ask", kept, tokens, kept, WHAT)[0] == 0
    assert len(loaded) == 1


def test_several_files_equal_the_same_files_alone(capsys, kept, tokens):
    together = run(capsys, "ask", kept, tokens, kept, WHAT, HOW_MANY)[1]
    alone = [run(capsys, "ask", one, WHAT, HOW_MANY)[1] for one in (kept, tokens, kept)]
    assert together == "".join(alone)
    assert len(together.splitlines()) == 6


def test_each_of_several_files_is_named_on_stderr(capsys, kept, tokens):
    err = run(capsys, "ask", kept, tokens, kept, WHAT)[2]
    assert (err.count(str(kept)), err.count(str(tokens))) == (2, 1)


def test_each_of_several_files_gets_a_json_line(capsys, kept, tokens):
    out = run(capsys, "ask", kept, tokens, "--json", WHAT)[1]
    assert [json.loads(line)["file"] for line in out.splitlines()] == [str(kept), str(tokens)]


def test_every_file_gets_the_questions_of_stdin(capsys, kept, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{WHAT}\n{HOW_MANY}\n"))
    code, out, _ = run(capsys, "ask", kept, kept, "-")
    lines = out.splitlines()
    assert code == 0
    assert len(lines) == 4 and lines[:2] == lines[2:]


def test_a_file_that_fails_does_not_stop_the_others(capsys, kept, tmp_path):
    missing = tmp_path / "gone.safetensors"
    code, out, err = run(capsys, "ask", kept, missing, kept, WHAT)
    assert code == 1
    assert len(out.splitlines()) == 2
    assert f"There is no file {missing}" in " ".join(err.split())
    assert "1 of 3 files failed" in err


# --- Positions --------------------------------------------------------------------------------------------------------


def test_packed_positions_change_what_the_model_sees_and_the_original_ones_are_the_default(capsys, kept):
    asked = ("ask", kept, WHAT, HOW_MANY, "How many green stars are there?", "--json")

    def answers(*more: str) -> list[str]:
        return [row["answer"] for row in json.loads(run(capsys, *asked, *more)[1])["answers"]]

    assert answers() == answers("--positions", "original") != answers("--positions", "packed")


def test_positions_that_do_not_exist_or_do_not_fit_are_refused(capsys, kept, tokens):
    assert "Did you mean 'packed'" in refused(capsys, "ask", kept, WHAT, "--positions", "paked")
    inside = ("--inside", "fastv", "--ratio", 0.3)
    assert "cannot be used together" in refused(capsys, "ask", tokens, WHAT, "--positions", "slots", *inside)


# --- What it refuses --------------------------------------------------------------------------------------------------


def test_a_file_of_another_model_is_refused(capsys, kept, tmp_path):
    other = CHECKPOINTS["qwen2_5_vl"](tmp_path / "other")
    assert "another model" in refused(capsys, "ask", kept, "What?", "--model", other)


def test_a_changed_model_is_refused(capsys, clip, tmp_path):
    folder = tmp_path / "model"
    CHECKPOINTS["llava_onevision"](folder)
    assert run(capsys, "encode", clip, "-o", tmp_path / "t", "--model", folder, "--frames", 3)[0] == 0
    assert run(capsys, "ask", tmp_path / "t", "w3 ?", "--max-new-tokens", 2)[0] == 0
    CHECKPOINTS["llava_onevision"](folder, seed=7)
    assert "has changed" in refused(capsys, "ask", tmp_path / "t", "w3 ?")


def test_the_frames_of_a_compressed_file_are_fixed(capsys, kept):
    assert "already encoded" in refused(capsys, "ask", kept, "What?", "--fps", 1)
    assert "no video is read" in refused(capsys, "ask", kept, "What?", "--decoder", "bogus")


def test_a_missing_file_is_refused(capsys, tmp_path):
    refused(capsys, "ask", tmp_path / "no.safetensors", "What?")


def test_a_damaged_file_is_a_failure_not_a_wrong_request(capsys, kept, tmp_path):
    (tmp_path / "c.safetensors").write_bytes(kept.read_bytes()[:-50])
    refused(capsys, "ask", tmp_path / "c.safetensors", "What?", code=1)


# --- When -------------------------------------------------------------------------------------------------------------


def test_when_names_the_slots_that_an_answer_looked_at(capsys, kept):
    plain = run(capsys, "ask", kept, WHAT, "--max-new-tokens", 6)
    code, out, err = run(capsys, "ask", kept, WHAT, "--max-new-tokens", 6, "--when")
    assert (code, out) == plain[:2] and "█" in err  # the answer is the same, and the line is not on stdout
    data = json.loads(run(capsys, "ask", kept, WHAT, "--max-new-tokens", 6, "--when", "--json")[1])
    slots = data["answers"][0]["when"]
    shares = [slot["share"] for slot in slots]
    assert len(slots) == 3 and shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1
    assert "when" not in json.loads(run(capsys, "ask", kept, WHAT, "--max-new-tokens", 6, "--json")[1])["answers"][0]


def test_when_and_inside_do_not_go_together(capsys, tokens):
    assert "--when" in refused(capsys, "ask", tokens, WHAT, "--when", "--inside", "fastv", "--ratio", "0.3")


def test_a_long_time_is_a_line_of_sixty_blocks():
    shares = [0.0] * 130
    shares[100], shares[7] = 0.75, 0.25
    blocks, _, times = timeline(shares, [60.0 * slot for slot in range(130)]).rpartition("█")[0::1]
    assert len(blocks) == 33 and blocks[2] != " " and times.strip().startswith("1:40:00, 7:00, ")
