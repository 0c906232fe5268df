"""Test modules share helpers through tests/support; they never import each other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
FILES = sorted(path.relative_to(TESTS).as_posix() for path in TESTS.rglob("*.py"))
#: An import of a test module or a conftest, also in the text of a script that a test runs.
FORBIDDEN = re.compile(r"^\s*(?:from|import)\s+tests(?:\.\w+)*\.(?:test_\w+|conftest)\b", re.MULTILINE)


@pytest.mark.parametrize("file", FILES)
def test_no_test_module_is_imported(file):
    assert FORBIDDEN.findall((TESTS / file).read_text()) == []


@pytest.mark.parametrize(
    "line", ["from tests.cli.test_app import x", "    import tests.conftest", "from tests.test_a import b"]
)
def test_forbidden_imports_are_recognised(line):
    assert FORBIDDEN.search(line)


def test_support_may_be_imported():
    assert not FORBIDDEN.search("from tests.support.commands import run")
