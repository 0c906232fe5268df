"""The README's chart shows the committed report."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("docs_why", ROOT / "docs" / "why.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_chart_is_drawn_from_the_report(script, tmp_path):
    report = json.loads(script.REPORT.read_text())
    script.draw(tmp_path / "why.svg", report)
    drawn = (tmp_path / "why.svg").read_text()
    vanilla = next(row for row in report["rows"] if row["method"] == "vanilla")["seconds"]["answer"]
    for row in script.rows_of(report, "st-simdiff+"):
        assert f">{100 * (1 - row['seconds']['answer'] / vanilla):.0f} %<" in drawn
    for text in ("st-simdiff+", "st-simdiff@file", "evs", "random", "3813 questions about 300 held-out rendered clips"):
        assert text in drawn


def test_other_numbers_give_another_chart(script, tmp_path):
    report = json.loads(script.REPORT.read_text())
    for row in report["rows"]:
        row["seconds"]["answer"] = 2.0 if row["method"] == "vanilla" else 0.5
    script.draw(tmp_path / "why.svg", report)
    drawn = (tmp_path / "why.svg").read_text()
    assert drawn.count(">75 %<") == 3
    for row in script.rows_of(report, "st-simdiff+"):
        point = row["rungs"]["pan"]["accuracy"]["all"]
        point |= {key: point[key] - 20 for key in ("percent", "low", "high")}
    script.draw(tmp_path / "other.svg", report)
    assert (tmp_path / "other.svg").read_text() != drawn
