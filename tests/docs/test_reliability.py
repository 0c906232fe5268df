"""docs/reliability.md says what the last report of the hostile tests says, and names files that exist."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text()


def test_the_table_is_that_of_the_report():
    spec = importlib.util.spec_from_file_location("docs_tables", ROOT / "docs" / "tables.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.filled(PAGE) == PAGE, "run docs/tables.py"


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`(stsimdiff_cli/[\w/.]+)`", PAGE))))
def test_every_path_on_the_page_exists(path):
    assert (ROOT / path).exists()
