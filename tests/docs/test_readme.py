"""The README's example, run as printed, gives the output printed there."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from stsimdiff_cli.cli.app import main

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()
CONSOLE = re.search(r"```console\n(.*?)```", TEXT, re.S).group(1)
PYTHON = re.search(r"```python\n(.*?)```", TEXT, re.S).group(1)


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    (tmp_path / "sample_videos").symlink_to(ROOT / "sample_videos")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def timeless(text: str) -> str:
    """Seconds differ from run to run; everything else must not."""
    return re.sub(r"\d+\.\d s\b", "_ s", text)


def expected_outputs() -> list[tuple[str, str]]:
    parts = re.split(r"^\$ (.*)\n", CONSOLE, flags=re.M)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


def test_the_example_prints_what_the_readme_says(workplace, capsys):
    steps = expected_outputs()
    assert [shlex.split(command)[1] for command, _ in steps] == ["encode", "compress", "inspect", "ask"]
    for command, printed in steps:
        capsys.readouterr()
        assert main(shlex.split(command)[1:]) == 0
        assert timeless(capsys.readouterr().out) == timeless(printed), command


def test_the_python_example_answers_like_the_command(workplace):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(PYTHON, "README.md", "exec"), {})
    answers = expected_outputs()[-1][1]
    assert out.getvalue() == answers


def test_the_pictures_are_there_and_small():
    named = re.findall(r"!\[[^]]*\]\(([^)]+)\)", TEXT) + re.findall(r'src(?:set)?="([^"]+)"', TEXT)
    assert {"docs/pictures/kept.png", "docs/pictures/kept.dark.png", "benchmarks/reports/methods.png"} <= set(named)
    for name in named:
        assert 0 < (ROOT / name).stat().st_size < 300_000, name
