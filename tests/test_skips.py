"""STSIMDIFF_NO_SKIPS=1 turns skips into failures, except for those that are allowed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = """
import pytest

def test_that_runs(): pass

@pytest.mark.skip(reason="no GPU here")
def test_that_needs_a_gpu(): pass

@pytest.mark.gpu
@pytest.mark.skip(reason="nothing to run on")
def test_with_a_mark(): pass

def test_that_finds_out_late(): pytest.skip("no browser here")

@pytest.mark.xfail(reason="not built yet", strict=True)
def test_that_fails_as_expected(): assert False
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("skips")
    (folder / "test_some.py").write_text(TESTS)
    (folder / "test_module.py").write_text("import pytest\npytest.importorskip('a_package_that_nobody_has')\n")
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = gpu: a mark\n")
    return folder


def outcomes(folder: Path, file: str, **environment: str) -> dict[str, int]:
    """How many tests of a file passed, failed and so on, in a separate pytest with these hooks and no other settings.

    A test that its mark skips ends in an error, not a failure; both count as failed.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("STSIMDIFF_", "PYTEST_"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.support.skips", "-p", "no:cacheprovider", file],
        cwd=folder,
        env={**inherited, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
    )
    counts: dict[str, int] = {}
    for count, outcome in re.findall(r"(\d+) (\w+)(?:,| in )", done.stdout.splitlines()[-1]):
        name = "failed" if outcome in ("error", "errors") else outcome
        counts[name] = counts.get(name, 0) + int(count)
    assert (done.returncode == 0) == ("failed" not in counts) or counts == {"skipped": 1}, done.stdout
    return counts


def test_skips_pass_by_default(folder):
    assert outcomes(folder, "test_some.py") == {"passed": 1, "skipped": 3, "xfailed": 1}


def test_no_skips_turns_every_skip_into_a_failure(folder):
    counts = outcomes(folder, "test_some.py", STSIMDIFF_NO_SKIPS="1")
    assert counts == {"passed": 1, "failed": 3, "xfailed": 1}


def test_skips_are_allowed_by_mark_and_by_reason(folder):
    counts = outcomes(folder, "test_some.py", STSIMDIFF_NO_SKIPS="1", STSIMDIFF_ALLOWED_SKIPS="no browser, gpu")
    assert counts == {"passed": 1, "failed": 1, "skipped": 2, "xfailed": 1}


def test_a_skipped_module_fails(folder):
    assert outcomes(folder, "test_module.py") == {"skipped": 1}
    assert outcomes(folder, "test_module.py", STSIMDIFF_NO_SKIPS="1") == {"failed": 1}


def test_a_skipped_module_is_allowed_by_its_reason(folder):
    allowed = {"STSIMDIFF_NO_SKIPS": "1", "STSIMDIFF_ALLOWED_SKIPS": "a_package_that_nobody_has"}
    assert outcomes(folder, "test_module.py", **allowed) == {"skipped": 1}
