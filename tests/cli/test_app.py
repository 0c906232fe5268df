"""The program as a whole: its lists, its imports, its errors and exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from stsimdiff_cli.cli.app import main
from stsimdiff_cli.methods import METHODS
from stsimdiff_cli.models import FAMILIES
from tests.support.commands import run


def test_methods_lists_the_table_of_methods(capsys):
    listed = json.loads(run(capsys, "methods", "--json")[1])["methods"]
    assert [row["method"] for row in listed] == list(METHODS)


def test_models_lists_the_embedded_model_and_the_families(capsys):
    listed = json.loads(run(capsys, "models", "--json")[1])["models"]
    assert [row["model"] for row in listed] == ["tiny", *FAMILIES]


def test_methods_shows_the_parameters_of_one(capsys):
    assert "tau_diff" in run(capsys, "methods", "st-simdiff")[1]


def test_an_unknown_method_is_refused(capsys):
    assert run(capsys, "methods", "nothing")[0] == 2


@pytest.mark.parametrize("args", [["--help"], ["methods"], ["models"], ["inspect"]])
def test_light_commands_import_neither_torch_nor_decoders(args, kept):
    args = [*args, str(kept)] if args == ["inspect"] else args
    code = (
        "import sys; from stsimdiff_cli.cli.app import main; main(sys.argv[1:]);"
        "print([m for m in ('torch', 'transformers', 'av', 'decord', 'scipy') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True)
    assert done.stderr.strip().endswith("[]"), done.stderr


def test_a_known_error_shows_its_traceback_on_request():
    environment = {**os.environ, "STSIMDIFF_DEBUG": "1"}
    command = [sys.executable, "-m", "stsimdiff_cli", "inspect", "no-such-file"]
    assert "Traceback" in subprocess.run(command, capture_output=True, text=True, env=environment).stderr


@pytest.mark.parametrize(("args", "code"), [(["bogus"], 2), (["encode", "--nonsense"], 2), (["--version"], 0)])
def test_exit_codes_of_the_command_line(args, code):
    assert main(args) == code


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--frames", "many", "--frames needs a whole number."),
        ("--frames", "0", "--frames needs a number of at least 1."),
        ("--fps", "1:30", "--fps needs a number."),
    ],
)
def test_a_word_in_place_of_a_number_is_refused_in_plain_words(capsys, option, value, words):
    code, _, err = run(capsys, "encode", "a.mp4", "-o", "a", option, value)
    assert (code, err) == (2, f"error: {words}\nhint: See stsimdiff encode --help\n")
