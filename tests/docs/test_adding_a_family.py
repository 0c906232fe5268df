"""What docs/adding-a-family.md says is so of the family that it follows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stsimdiff_cli.models import FAMILIES
from stsimdiff_cli.models.families.base import Family
from stsimdiff_cli.models.families.qwen3_5 import Qwen35
from tests.support.checkpoints import CHECKPOINTS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adding-a-family.md").read_text()
PATHS = sorted(set(re.findall(r"`((?:stsimdiff_cli|tests|docs|benchmarks)/[\w/.]+)`", PAGE)))


def members(table: str) -> set[str]:
    """The first column of one of the page's tables."""
    rows = re.search(rf"<!-- {table} -->(.*?)<!-- end -->", PAGE, re.S)[1]
    return set(re.findall(r"^\| `(\w+)` \|", rows, re.M))


@pytest.mark.parametrize("path", PATHS)
def test_every_path_on_the_page_is_there(path):
    assert (ROOT / path).is_file()


def test_the_page_names_all_that_a_family_must_define():
    assert members("required") == {"name", *Family.__abstractmethods__}


def test_the_family_that_it_follows_has_the_members_that_it_lists():
    own = {name for name in vars(Qwen35) if not name.startswith("_")}
    assert own == members("own")


def test_that_family_is_one_line_of_each_table():
    assert FAMILIES.load("qwen3_5") is Qwen35 and "qwen3_5" in CHECKPOINTS
    hits = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "stsimdiff_cli").rglob("*.py")
        if re.search(r"qwen3_5\b|Qwen35\b", path.read_text())
    ]
    allowed = {"__init__.py", *(f"families/{name}.py" for name in ("qwen3_5", "qwen3_5_moe", "glm4v"))}  # its heirs
    assert {hit.removeprefix("stsimdiff_cli/models/") for hit in hits} == allowed


def test_what_the_interface_got_for_it_names_no_family():
    assert {"attention_layer", "template_kwargs"} <= vars(Family).keys()
    assert "`attention_layer`" in PAGE and "`template_kwargs`" in PAGE
