"""The tables of the pages are those of the reports, and the reports are those of the shipped model."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from stsimdiff_cli.models.families import open_family

ROOT = Path(__file__).parents[2]
OTHERS = (
    "hostile",
    "decode-workers",
    "decode-torchcodec",
    "overlap",
    "startup",
    "archives",
    "schedule",
    "serving",
)  # of no model's answers
REPORTS = sorted(p for p in (ROOT / "benchmarks" / "reports").glob("*.json") if p.stem not in (*OTHERS, "hours"))
EVALUATIONS = sorted((ROOT / "benchmarks" / "reports" / "eval").glob("*.json"))


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("benchmark_tables", ROOT / "benchmarks" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_table_is_that_of_its_report(script):
    for page in script.PAGES:
        text = page.read_text()
        assert script.PLACE.search(text), page
        assert script.filled(text) == text, f"{page.name}: run benchmarks/tables.py"


def test_a_changed_table_is_noticed(script):
    text = script.PAGES[0].read_text()
    digits = script.PLACE.search(text).group(5)
    assert script.filled(text.replace(digits, digits.replace("1", "2"))) == text


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.stem)
def test_a_report_is_of_the_shipped_model_and_names_no_place_of_a_machine(path):
    report = json.loads(path.read_text())
    assert (report["model"], report["fingerprint"]) == ("tiny", open_family("tiny").checkpoint.fingerprint)
    least = {"inside": 40, "positions": 36}.get(path.stem, 100)
    assert len(report["sittings"]) == report["clips"] >= least
    assert "/" not in json.dumps({key: value for key, value in report.items() if key not in ("format", "sittings")})


def test_the_recording_of_hours_is_of_the_shipped_model():
    report = json.loads((ROOT / "benchmarks" / "reports" / "hours.json").read_text())
    assert (report["model"], report["fingerprint"]) == ("tiny", open_family("tiny").checkpoint.fingerprint)
    assert report["slots"] == 36_000
    assert [step["killed"] for step in report["encode"]] == [True, True, False]
    asked = [len(report[name]) for name in ("answers", "answers_from_one", "answers_from_all")]
    assert asked == [40, 40, 40]
    assert "/" not in json.dumps({key: value for key, value in report.items() if key != "format"})


@pytest.mark.parametrize("path", EVALUATIONS, ids=lambda path: path.stem)
def test_an_evaluation_is_of_the_shipped_model_and_of_all_questions(path):
    report = json.loads(path.read_text())
    fingerprint = open_family("tiny").checkpoint.fingerprint
    assert (report["model"], report["fingerprint"]) == ("tiny", fingerprint)
    assert (report["questions"], report["answered"], report["labelled"], report["failures"]) == (500, 500, 500, [])
    assert "/" not in json.dumps({key: value for key, value in report.items() if key != "format"})
