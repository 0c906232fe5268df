"""Turns skipped tests into failures, for machines where everything is expected to run.

STSIMDIFF_NO_SKIPS=1 turns it on. STSIMDIFF_ALLOWED_SKIPS lists what may be skipped nevertheless, separated by commas:
names of marks (lmms), or parts of reasons (no Chromium). `tests/conftest.py` imports the hooks.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable

import pytest


def is_forbidden(reason: str, marks: Iterable[str] = ()) -> bool:
    """Whether a test with these marks must not be skipped for this reason."""
    if os.environ.get("STSIMDIFF_NO_SKIPS") != "1":
        return False
    allowed = [part.strip() for part in os.environ.get("STSIMDIFF_ALLOWED_SKIPS", "").split(",")]
    names = set(marks)
    return not any(part in reason or part in names for part in allowed if part)


def _forbid(report: pytest.TestReport | pytest.CollectReport, marks: Iterable[str]) -> None:
    """Turn the report of a skip into that of a failure, unless the skip is allowed. An expected failure is no skip."""
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    if is_forbidden(reason, marks):
        report.outcome = "failed"
        report.longrepr = f"Skipped, which STSIMDIFF_NO_SKIPS=1 does not allow: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Skips of single tests."""
    report = yield
    _forbid(report, (mark.name for mark in item.iter_markers()))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Skips of whole modules."""
    report = yield
    _forbid(report, ())
    return report
