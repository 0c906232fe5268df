"""How the program talks: JSON on both streams, --quiet and --verbose, tables, progress, and the end by a signal."""

from __future__ import annotations

import json
import signal

import pytest
from rich.console import Console

from stsimdiff_cli import pipeline
from stsimdiff_cli.cli import output, stops
from tests.support.commands import run

HEADER = ["name", "what it is", "source"]
ROWS = [["first", "a text that is longer than a narrow terminal is wide", "somebody, 2024"], ["b", "short", "x"]]


@pytest.fixture(autouse=True)
def fresh():
    """No test talks as the one before it."""
    output.begin(json=False)
    yield
    output.begin(json=False)


@pytest.fixture
def terminal(monkeypatch):
    """A function that makes stdout a terminal of so many columns."""

    def make(width: int) -> None:
        monkeypatch.setattr(output, "stdout", Console(force_terminal=True, width=width, color_system=None))

    return make


# --- JSON -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [
        ["inspect", "missing"],
        ["encode", "a.mp4", "-o", "x", "--frames", "many"],
        ["encode", "a.mp4"],
        ["bogus"],
        ["methods", "bogus"],
    ],
)
@pytest.mark.parametrize("before", [True, False])
def test_with_json_an_error_is_json_on_stderr(capsys, args, before):
    code, out, err = run(capsys, *(["--json", *args] if before else [*args, "--json"]))
    data = json.loads(err.splitlines()[-1])["error"]
    assert out == "" and data["exit_code"] == code == 2
    assert data["message"].endswith((".", "?")) and data["hint"]


def test_json_may_stand_before_the_command(capsys):
    assert run(capsys, "--json", "methods") == run(capsys, "methods", "--json")


def test_a_run_does_not_talk_as_the_one_before_it(capsys):
    run(capsys, "--json", "-q", "methods")
    assert run(capsys, "methods")[1].startswith("method ")
    assert run(capsys, "inspect", "missing")[2].startswith("error: ")


def test_warnings_are_in_the_result_as_well(capsys):
    output.begin(json=True)
    output.warn("look")
    output.result_json({"a": 1})
    output.result_json({"a": 2})
    out, err = capsys.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == [{"a": 1, "warnings": ["look"]}, {"a": 2, "warnings": []}]
    assert json.loads(err) == {"warning": "look"}


def test_an_interrupted_run_says_so_in_json(capsys):
    output.begin(json=True)
    output.interrupted(130)
    assert json.loads(capsys.readouterr().err)["error"] == {"message": "interrupted", "hint": None, "exit_code": 130}


# --- --quiet and --verbose --------------------------------------------------------------------------------------------


def said(capsys) -> str:
    for say in (output.detail, output.note, output.warn):
        say(say.__name__)
    output.aside("aside")
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("quiet", "verbose", "expected"),
    [
        (False, False, "note: note\nwarning: warn\naside\n"),
        (True, False, "warning: warn\n"),
        (False, True, "detail: detail\nnote: note\nwarning: warn\naside\n"),
    ],
)
def test_what_is_said(capsys, quiet, verbose, expected):
    output.talk(quiet, verbose)
    assert said(capsys) == expected


@pytest.mark.parametrize("args", [["-q", "methods", "-v"], ["methods", "-q", "-v"], ["--verbose", "models", "-q"]])
def test_quiet_and_verbose_exclude_each_other(capsys, args):
    code, _, err = run(capsys, *args)
    assert code == 2 and "cannot be used together" in err


# --- tables -----------------------------------------------------------------------------------------------------------


def test_off_a_terminal_a_table_is_as_wide_as_its_cells(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    output.table(ROWS, HEADER)
    assert capsys.readouterr().out.splitlines() == [
        "name   what it is                                            source",
        "first  a text that is longer than a narrow terminal is wide  somebody, 2024",
        "b      short                                                 x",
    ]


@pytest.mark.parametrize(("width", "left_out"), [(100, []), (50, []), (40, ["source"]), (20, ["what it is", "source"])])
def test_a_narrow_terminal_leaves_out_columns_and_says_which(capsys, terminal, width, left_out):
    terminal(width)
    output.table(ROWS, HEADER)
    out, err = capsys.readouterr()
    assert [name for name in HEADER if name not in out] == left_out
    assert max(map(len, out.splitlines())) <= width
    assert (f"too narrow for: {', '.join(left_out)}." in err) == bool(left_out)


# --- progress ---------------------------------------------------------------------------------------------------------


def test_the_rate_counts_from_the_first_report(monkeypatch):
    clock = iter([100.0, 104.0, 108.0])
    monkeypatch.setattr(output.time, "perf_counter", lambda: next(clock))
    pace = output.Pace("frames")
    assert pace.text(8, 128) == "8 of 128 frames"
    assert pace.text(16, 128) == "16 of 128 frames, 2 frames/s, 0:56 left"
    assert pace.text(128, 128) == "128 of 128 frames, 15 frames/s, 0:00 left"


def test_encode_off_a_terminal_prints_lines_of_progress(capsys, clip, tmp_path, monkeypatch):
    monkeypatch.setattr(output, "LOG_SECONDS", 0.0)
    err = run(capsys, "encode", clip, "-o", tmp_path / "t", "--frames", 16)[2]
    assert "8 of 16 frames" in err and "16 of 16 frames, " in err and " frames/s, 0:00 left" in err
    assert "frames/s" not in run(capsys, "encode", clip, "-o", tmp_path / "t", "--frames", 16, "--force", "-q")[2]


# --- the end by a signal ----------------------------------------------------------------------------------------------


@pytest.fixture
def heeded():
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_stopped_command_says_that_nothing_was_written(capsys, clip, tmp_path, monkeypatch, heeded):
    monkeypatch.setattr(pipeline, "encode_video", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    code, out, err = run(capsys, "encode", clip, "-o", tmp_path / "t", "-q")
    assert (code, out, err) == (130, "", "interrupted\n")
    err = run(capsys, "encode", clip, "-o", tmp_path / "t")[2]
    assert err.endswith("note: Nothing was written.\ninterrupted\n")
    assert not (tmp_path / "t").exists()


def test_a_command_that_is_stopped_after_its_file_was_written_names_it(capsys, clip, tmp_path, monkeypatch, heeded):
    monkeypatch.setattr(output, "result", lambda _: signal.raise_signal(stops.SIGNALS[0]))
    code, _, err = run(capsys, "encode", clip, "-o", tmp_path / "t", "--frames", 2)
    assert code == 130 and f"Written before the end: {tmp_path / 't'}" in err
