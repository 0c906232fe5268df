"""A whole profile with the embedded model: report, table and picture. No test asserts a duration."""

from __future__ import annotations

import contextlib
import io
import json

import pytest

from stsimdiff_cli.cli.app import main
from stsimdiff_cli.errors import StsimdiffError
from stsimdiff_cli.machine import short
from stsimdiff_cli.profiling import plot, report
from stsimdiff_cli.profiling.job import STAGES, TOTALS, Job
from stsimdiff_cli.storage.atomic import save_json
from tests.support.json_schema import check
from tests.support.profile_jobs import measure

PNG = b"\x89PNG\r\n\x1a\n"


def first_in_a_process(monkeypatch) -> None:
    """The first cell runs in a process of its own, as all do outside of tests; the others here, to save time."""
    run_in_process, jobs = report.run_cell, []

    def run_cell(job: Job) -> dict:
        jobs.append(job)
        return run_in_process(job) if len(jobs) == 1 else json.loads(json.dumps(measure(job)))

    monkeypatch.setattr(report, "run_cell", run_cell)


@pytest.fixture(scope="module")
def profiled(tmp_path_factory):
    """One real profile with the embedded model: its folder, exit code and output."""
    folder = tmp_path_factory.mktemp("profile")
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        first_in_a_process(patch)
        arguments = ["profile", "--frames", "2,4", "--repeats", "1", "--max-new-tokens", "3", "--json"]
        arguments += ["-o", str(folder / "report.json"), "--plot", str(folder / "profile.png")]
        code = main(arguments)
    return folder, code, out.getvalue()


def test_a_profile_has_all_its_numbers(profiled):
    _, code, out = profiled
    assert code == 0
    assert out.count("\n") == 1
    measured = json.loads(out)
    assert [(row["frames"], row["method"]) for row in measured["rows"]] == [
        (2, "vanilla"),
        (2, "st-simdiff"),
        (4, "vanilla"),
        (4, "st-simdiff"),
    ]
    for row in measured["rows"]:
        assert row["error"] is None
        assert set(row["seconds"]) == {*STAGES, *TOTALS}
        assert row["frames_decoded"] == row["frames"]
        assert row["new_tokens"] == 3
        assert len(row["repeat_seconds"]) == 1
        assert set(row["peak_bytes"]) == {"encode", "compress", "ask", "all"}
        assert row["peak_bytes"]["all"] == max(row["peak_bytes"].values())
        ranked = row["method"] == "st-simdiff"
        assert row["kept"] == (-(-3 * row["tokens"] // 10) if ranked else row["tokens"])
        assert (row["saved_percent"] is not None) == ranked
        present = {name for name, seconds in row["seconds"].items() if seconds is not None}
        assert {*STAGES, *TOTALS} - present <= {"importance"}
    assert measured["machine"]["torch"]
    assert measured["machine"]["device"] in ("cpu", "cuda", "mps")
    assert measured["ratio"] == 0.3
    assert measured["video"]["width"] == 640
    assert measured["video_made"] is True


def test_the_report_on_disk_is_the_one_on_stdout(profiled):
    folder, _, out = profiled
    stored = json.loads((folder / "report.json").read_text())
    printed = json.loads(out)
    check("profile", printed)
    assert stored.keys() == printed.keys() - {"warnings"}
    assert [row["kept"] for row in stored["rows"]] == [row["kept"] for row in printed["rows"]]
    assert sorted(path.name for path in folder.iterdir()) == ["profile.png", "report.json"]


def test_the_picture_is_a_png(profiled):
    from PIL import Image

    folder, _, _ = profiled
    assert (folder / "profile.png").read_bytes().startswith(PNG)
    with Image.open(folder / "profile.png") as picture:
        picture.verify()


@pytest.mark.parametrize("option", ["-o", "--plot"])
def test_an_output_that_exists_is_kept_unless_forced(profiled, option, capsys):
    folder, _, _ = profiled
    path = folder / ("report.json" if option == "-o" else "profile.png")
    before = path.read_bytes()
    assert main(["profile", "--frames", "2", option, str(path)]) == 2
    assert "--force" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_the_table_shows_stages_and_savings(profiled, monkeypatch, capsys):
    _, _, out = profiled
    measured = json.loads(out)
    monkeypatch.setattr(report, "profile", lambda *_: measured)
    assert main(["profile", "--frames", "2,4"]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("st-simdiff@file", "prefill", "importance", "cold %", "peak %"))
    assert f"{measured['rows'][3]['saved_percent']['peak']:.1f}" in shown
    assert max(len(line) for line in shown.splitlines()) <= 130


def test_pictures_hold_any_number_of_methods_and_none(profiled, tmp_path):
    measured = json.loads(profiled[2])
    empty = measured | {"rows": [], "video": None, "dtype": None}
    doubled = measured | {"rows": measured["rows"] + [row | {"method": "other"} for row in measured["rows"]]}
    for number, each in enumerate((empty, doubled)):
        plot.save_plot(tmp_path / f"{number}.svg", each)
        assert (tmp_path / f"{number}.svg").read_bytes().startswith(b"<?xml")


def test_bars_of_stages_are_the_medians_at_the_most_frames(profiled):
    rows = json.loads(profiled[2])["rows"]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    most = {row["method"]: row["seconds"] for row in rows if row["frames"] == 4}
    bars = plot.stage_bars(rows, methods)
    assert list(bars) == ["decode", "encode", "select", "importance", "prefill", "answer"]
    for number, method in enumerate(methods):
        for stage, seconds in bars.items():
            assert seconds[number] == (most[method][stage]["median"] if most[method][stage] else 0)
        total = most[method]["cold"]
        assert total["min"] * 0.5 < sum(seconds[number] for seconds in bars.values()) < total["max"] * 1.5


def test_a_caption_names_machine_model_and_ratio(profiled):
    measured = json.loads(profiled[2])
    text = plot.caption(measured).replace("\n", " ")
    assert all(part in text for part in ("tiny", "ratio 0.3", short(measured["machine"]), "640 x 360"))


def test_a_report_that_cannot_be_written_is_a_sentence(tmp_path):
    with pytest.raises(StsimdiffError, match="cannot be written"):
        save_json(tmp_path / "gone" / "report.json", {})
