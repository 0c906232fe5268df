"""The help texts: they fit a terminal of 80 columns, every option is explained, and the English is plain."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

import stsimdiff_cli
from stsimdiff_cli.cli.app import app
from stsimdiff_cli.pipeline import GENERAL_PROMPT
from tests.support.commands import run
from tests.support.wording import ODD, odd_sentences, sentences

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
WIDTH = 80
PACKAGE = Path(stsimdiff_cli.__file__).parent


def help_of(capsys, monkeypatch, *command: str) -> list[str]:
    """The lines of a help text without colours."""
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    code, out, _ = run(capsys, *command, "--help")
    assert code == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", out).splitlines()


def options_of(command: str) -> list[Any]:
    return [parameter for parameter in COMMANDS[command].params if parameter.name != "help"]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_a_terminal(capsys, monkeypatch, command):
    lines = help_of(capsys, monkeypatch, *filter(None, [command]))
    assert [line for line in lines if len(line) > WIDTH] == []


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_no_word_of_a_help_is_cut_off(capsys, monkeypatch, command):
    lines = help_of(capsys, monkeypatch, *filter(None, [command]))
    assert [line for line in lines if "…" in line] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_a_summary_takes_one_line_of_the_list(capsys, monkeypatch, command):
    summary = COMMANDS[command].help.split("\n\n")[0]
    lines = help_of(capsys, monkeypatch)
    assert sum(line.strip("│ ").split(maxsplit=1) == [command, summary] for line in lines) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained_in_a_sentence(command):
    texts = {parameter.name: parameter.help or "" for parameter in options_of(command)}
    assert [name for name, text in texts.items() if not text.endswith(".")] == []


def test_the_help_of_compress_quotes_the_general_prompt():
    (prompt,) = (parameter for parameter in options_of("compress") if parameter.name == "prompt")
    assert repr(GENERAL_PROMPT) in prompt.help


def test_sentences_are_plain_english():
    """Docstrings, help texts, messages and hints of the whole package."""
    assert list(odd_sentences(PACKAGE, PACKAGE)) == []


def test_the_reader_of_sentences_finds_them(tmp_path):
    (tmp_path / "module.py").write_text(
        '"""Docs of the module."""\n'
        'raise RequestError(f"{x} is no cosine.", "Try" + " 1.")\n'
        'option(help="File beside it.")\n'
        'output.note("a note" if x else "another note")\n'
        'print("not shown")\n'
    )
    assert [(sentence.line, sentence.text) for sentence in sentences(tmp_path, tmp_path)] == [
        (1, "Docs of the module."),
        (2, "{} is no cosine."),
        (2, "Try 1."),
        (3, "File beside it."),
        (4, "a note another note"),
    ]
    assert [sentence.line for sentence in odd_sentences(tmp_path, tmp_path)] == [2, 3]


@pytest.mark.parametrize(
    "text", ["2 is no cosine", "beside the file", "behind the last cut", "whoever asks", "is no x"]
)
def test_odd_phrases_are_recognised(text):
    assert ODD.search(text)


@pytest.mark.parametrize("text", ["There is no file.", "besides", "it is no longer there", "going on with it"])
def test_plain_phrases_pass(text):
    assert not ODD.search(text)
