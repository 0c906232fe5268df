"""The command reference is what the commands' help says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("docs_commands", ROOT / "docs" / "commands.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(script):
    assert script.PAGE.read_text() == script.page(), "run docs/commands.py (make reference)"


def test_the_page_has_every_command_and_shows_values_that_look_like_nothing(script):
    page = script.page()
    for name in (
        "encode",
        "compress",
        "ask",
        "inspect",
        "status",
        "view",
        "profile",
        "bench",
        "eval",
        "methods",
        "models",
    ):
        assert f"\n## {name}\n" in page
    assert "| `--temperature` | `0.0` |" in page
    assert "| `--force` |  |" in page
    assert "stsimdiff compress FILES... -o OUTPUT_PATH [OPTIONS]" in page
