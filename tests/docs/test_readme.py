"""The examples of README.md and of docs/getting-started.md, run as printed, give the output printed there."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from stsimdiff_cli.cli.app import main

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks" / "RESULTS.md")
TEXT = (ROOT / "README.md").read_text()
STARTED = (ROOT / "docs" / "getting-started.md").read_text()
PYTHON = re.search(r"```python\n(.*?)```", TEXT, re.S).group(1)


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    (tmp_path / "sample_videos").symlink_to(ROOT / "sample_videos")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def timeless(text: str) -> str:
    """Seconds differ from run to run; everything else must not."""
    return re.sub(r"\d+\.\d s\b", "_ s", text)


def expected_outputs(page: str) -> list[tuple[str, str]]:
    """The commands of a page's example, each with the output printed under it."""
    console = re.search(r"```console\n(.*?)```", page, re.S).group(1)
    parts = re.split(r"^\$ (.*)\n", console, flags=re.M)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize(
    ("page", "commands"),
    [(TEXT, ["encode", "compress", "ask"]), (STARTED, ["encode", "compress", "inspect", "ask"])],
    ids=["README.md", "docs/getting-started.md"],
)
def test_the_example_prints_what_the_page_says(page, commands, workplace, capsys):
    steps = expected_outputs(page)
    assert [shlex.split(command)[1] for command, _ in steps] == commands
    for command, printed in steps:
        capsys.readouterr()
        assert main(shlex.split(command)[1:]) == 0
        assert timeless(capsys.readouterr().out) == timeless(printed), command


def test_the_python_example_answers_like_the_command(workplace):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(PYTHON, "README.md", "exec"), {})
    answers = expected_outputs(TEXT)[-1][1]
    assert out.getvalue() == answers


def test_a_file_is_read_without_stsimdiff_as_the_page_on_files_says(workplace, capsys):
    for command, _ in expected_outputs(TEXT)[:2]:
        assert main(shlex.split(command)[1:]) == 0
    snippet = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "files.md").read_text(), re.S).group(1)
    assert "stsimdiff_cli" not in snippet
    capsys.readouterr()
    exec(compile(snippet, "files.md", "exec"), {})
    assert capsys.readouterr().out == "st-simdiff+ 471 of 1568\n"


def test_the_readme_is_short():
    """A newcomer reads all of it: 1,300 words, the tables written from the registries not counted."""
    prose = re.sub(r"<!-- (methods|models) -->.*?<!-- end -->", "", TEXT, flags=re.S)
    assert len(re.findall(r"\w[\w'./=+-]*", prose)) <= 1300
    assert len(prose.splitlines()) <= 140


def links(page: Path) -> list[str]:
    """Where the links and pictures of a page lead, without those of the web."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    named = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src(?:set)?="([^"]+)"', text)
    return [name for name in named if not name.startswith(("http://", "https://"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_every_picture_is_small(page):
    for name in links(page):
        file, _, anchor = name.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.is_file(), name
        if target.suffix in (".png", ".svg"):
            assert 0 < target.stat().st_size < 300_000, name
        if anchor:
            assert anchor in anchors(target), name


def anchors(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_pictures_of_the_readme_are_there_for_light_and_dark_pages():
    assert {"docs/pictures/kept.png", "docs/pictures/kept.dark.png"} <= set(links(ROOT / "README.md"))
    assert {"docs/pictures/why.png", "docs/pictures/why.dark.png"} <= set(links(ROOT / "README.md"))
    assert "../benchmarks/reports/methods.png" in links(ROOT / "docs" / "bench.md")
