"""Profiling: what is counted, what is saved, and what happens when a cell fails. No test asserts a duration."""

from __future__ import annotations

import contextlib
import io
import json
import sys

import pytest

from stsimdiff_cli import plotting
from stsimdiff_cli.cli import app
from stsimdiff_cli.cli.app import main
from stsimdiff_cli.errors import RequestError, StsimdiffError
from stsimdiff_cli.machine import describe, short
from stsimdiff_cli.models.inference.conversation import Conversation
from stsimdiff_cli.models.loading.presets import PRESETS
from stsimdiff_cli.profiling import memory, plot, report
from stsimdiff_cli.profiling.cell import Cell, method_of, stage_seconds
from stsimdiff_cli.profiling.clip import make_clip
from stsimdiff_cli.profiling.job import COLD, STAGES, TOTALS, WARM, Job
from stsimdiff_cli.profiling.request import parse_frames, parse_methods
from stsimdiff_cli.storage.atomic import save_json

PNG = b"\x89PNG\r\n\x1a\n"


def job(**changes) -> Job:
    values = {"video": "clip.mp4", "model": "tiny", "frames": 4, "method": "vanilla", "importance": None}
    return Job(**(values | {"ratio": "0.3", "new_tokens": 3, "repeats": 2} | changes))


def numbers(cold: float, warm: float, peak: int, repeats: int = 1) -> dict:
    """What a cell reports, made up."""
    runs = [dict.fromkeys(STAGES, 0.5) | {"importance": None, "cold": cold, "warm": warm} for _ in range(repeats)]
    return {
        "frames_decoded": 4,
        "tokens": 100,
        "kept": 30,
        "repeat_seconds": runs,
        "peak_bytes": {"encode": 1, "all": peak},
        "peak_source": "made up",
        "dtype": "float32",
        "machine": describe(),
        "source": {"name": "clip.mp4", "width": 64, "height": 36, "seconds": 2.0, "fps": 30.0},
    }


# --- arithmetic -----------------------------------------------------------------------------------------------------


def test_savings_are_those_of_section_5_5():
    cells = {"vanilla": numbers(6.50, 4.0, 35_000_000_000), "st-simdiff": numbers(4.54, 1.0, 23_900_000_000)}
    rows = [report.row(job(method=name, frames=128), found) for name, found in cells.items()]
    base = report.baseline(rows, 128)
    saved = report.saved(rows[1], base)
    assert saved == pytest.approx({"cold": 30.1538, "warm": 75.0, "peak": 31.7143}, abs=1e-4)
    assert report.saved(rows[0], base) is None
    assert report.baseline(rows, 64) is None
    assert report.saved(rows[1], None) is None


def test_taking_more_is_a_negative_saving():
    rows = [report.row(job(), numbers(1.0, 1.0, 100)), report.row(job(method="random"), numbers(1.5, 1.0, 110))]
    assert report.saved(rows[1], rows[0]) == pytest.approx({"cold": -50.0, "warm": 0.0, "peak": -10.0})


def test_spreads_are_median_least_and_most():
    found = report.spreads([{"decode": 3.0, "importance": None}, {"decode": 1.0, "importance": None}])
    assert found == {"decode": {"median": 2.0, "min": 1.0, "max": 3.0}, "importance": None}


def test_methods_with_parameters_are_numbered():
    specs = ["vanilla", "st-simdiff", "st-simdiff:tau_sim=0.7", "random:seed=1", "st-simdiff:tau_sim=0.9"]
    found = report.labels([{"method": spec} for spec in specs + specs])
    assert list(found.values()) == ["vanilla", "st-simdiff", "st-simdiff 1", "random 1", "st-simdiff 2"]


def test_the_widest_spread_is_that_of_the_worst_row():
    calm, failed = report.row(job(), numbers(1.0, 1.0, 1)), report.row(job(), {"error": "no"})
    restless = report.row(
        job(), numbers(2.0, 2.0, 1) | {"repeat_seconds": [{"cold": x, "warm": 1.0} for x in (1, 2, 4)]}
    )
    assert report.widest_spread([calm, failed, restless]) == 1.5
    assert report.widest_spread([failed]) == 0.0
    assert report.remarks([calm]) == []
    assert report.remarks([calm, restless])[0].startswith("repeats differ by up to 150 %")


def test_a_video_with_fewer_frames_is_remarked_once():
    rows = [report.row(job(frames=9, method=name), numbers(1.0, 1.0, 1)) for name in ("vanilla", "random")]
    assert report.remarks(rows) == ["the video has only 4 frames, not 9."]


def test_totals_are_sums_of_their_stages():
    steps = {"scan": 1.0, "decode": 2.0, "load": 64.0, "encode": 4.0, "graph": 8.0, "communities": 16.0}
    steps |= {"merge": 2048.0, "select": 32.0, "read": 128.0, "prefill": 256.0, "answer": 512.0, "token": 1024.0}
    seconds = stage_seconds(steps)
    assert (seconds["decode"], seconds["select"], seconds["importance"]) == (3.0, 2104.0, None)
    assert seconds["cold"] == 3 + 4 + 2104 + 256 + 512
    assert seconds["warm"] == 128 + 256 + 512
    assert set(seconds) == {*STAGES, *TOTALS}
    assert set(COLD) | set(WARM) <= set(STAGES)


# --- the request ----------------------------------------------------------------------------------------------------


def test_numbers_of_frames_are_read_once_each():
    assert parse_frames("32, 64,32") == [32, 64]


@pytest.mark.parametrize("text", ["", "four", "8,", "8,0", "-1", "2.5"])
def test_a_bad_list_of_frames_is_refused(text):
    with pytest.raises(RequestError, match="--frames"):
        parse_frames(text)


def test_parameters_stay_with_their_method():
    text = "vanilla, st-simdiff:tau_sim=0.7,tau_diff=p95,st-simdiff,vanilla"
    assert parse_methods(text) == ["vanilla", "st-simdiff:tau_sim=0.7,tau_diff=p95", "st-simdiff"]


def test_importance_suits_only_methods_that_rank():
    assert parse_methods("vanilla,st-simdiff", "saliency") == ["vanilla", "st-simdiff"]
    assert method_of(job(method="st-simdiff", importance="centrality")).parameters()["importance"] == "centrality"
    assert method_of(job(importance="centrality")).name == "vanilla"
    with pytest.raises(RequestError, match="ranks"):
        parse_methods("vanilla", "saliency")
    with pytest.raises(RequestError, match="choices"):
        parse_methods("st-simdiff", "beauty")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--frames", "x"], "--frames x"),
        (["--ratio", "1.5"], "outside (0, 1]"),
        (["--methods", "vanila"], "Did you mean 'vanilla'?"),
        (["--dummy-weights", "qwen-7b"], "Did you mean 'qwen2.5-vl-7b'?"),
        (["--dummy-weights", "qwen2.5-vl-3b", "--model", "tiny"], "exclude each other"),
        (["nowhere.mp4"], "nowhere.mp4"),
        (["--plot", "picture.txt"], ".png"),
        (["-o", "no/such/folder.json"], "mkdir -p"),
    ],
)
def test_a_wrong_request_is_a_sentence_and_a_hint(arguments, message, capsys):
    assert main(["profile", *arguments]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert "hint:" in shown.err
    assert shown.out == ""


def test_the_help_names_every_preset(capsys):
    assert main(["profile", "--help"]) == 0
    text = "".join(capsys.readouterr().out.replace("│", "").split())
    assert all(preset in text for preset in PRESETS)
    assert app.profile


def test_a_picture_without_matplotlib_is_refused_with_the_way_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(plotting, "find_spec", lambda _: None)
    with pytest.raises(RequestError) as caught:
        plotting.check_plot(tmp_path / "profile.png")
    assert caught.value.hint == "pip install 'stsimdiff[plot]'"


# --- cells ----------------------------------------------------------------------------------------------------------


def command(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_crashed_cell_is_a_row_and_stops_nothing(monkeypatch):
    codes = iter(
        [
            "import os; os.kill(os.getpid(), 9)",
            "raise MemoryError('too much')",
            f"print({json.dumps(json.dumps(numbers(1.0, 1.0, 1)))})",
        ]
    )
    real = report.run_cell

    def next_cell(each: Job) -> dict:
        monkeypatch.setattr(report, "COMMAND", command(next(codes)))
        return real(each)

    monkeypatch.setattr(report, "run_cell", next_cell)
    found = report.profile([job(method=name) for name in ("vanilla", "random", "uniform")])
    errors = [row["error"] for row in found["rows"]]
    assert errors == ["ended by SIGKILL (out of memory?)", "MemoryError: too much", None]
    assert all(row["saved_percent"] is None for row in found["rows"])
    assert found["dtype"] == "float32"  # from the cell that succeeded
    json.dumps(found)


def test_a_failed_cell_makes_the_exit_code_1(monkeypatch, capsys):
    monkeypatch.setattr(report, "COMMAND", command("raise SystemExit('no luck')"))
    assert main(["profile", "--frames", "2", "--methods", "vanilla"]) == 1
    assert "vanilla at 2 frames failed: no luck" in capsys.readouterr().err


def test_a_wrong_request_found_by_a_cell_ends_the_profile(monkeypatch):
    answer = json.dumps({"error": "There is no such device.", "hint": "Use cpu.", "exit_code": 2})
    monkeypatch.setattr(report, "COMMAND", command(f"print({json.dumps(answer)})"))
    with pytest.raises(RequestError, match="no such device"):
        report.profile([job(), job()])


def test_a_user_s_mistake_in_a_cell_comes_back_as_one():
    with pytest.raises(RequestError, match=r"nowhere\.mp4") as caught:
        report.run_cell(job(video="nowhere.mp4"))
    assert caught.value.hint


def test_a_part_loads_its_model_once_for_all_repeats(tmp_path, monkeypatch):
    from stsimdiff_cli.models.inference import language_model as language
    from stsimdiff_cli.models.inference import vision_encoder as vision

    loads = []
    for module, name in ((vision, "load_vision"), (language, "load_language")):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, _name=name, _real=real: loads.append(_name) or _real(*a))
    make_clip(tmp_path / "clip.mp4", 4)
    Cell(job(video=str(tmp_path / "clip.mp4"), frames=2, repeats=2)).measure()
    assert loads == ["load_vision", "load_language"]


def test_a_peak_is_forgotten_when_reset():
    import numpy as np
    import torch

    peak = memory.PeakMemory(torch.device("cpu"))
    peak.reset()
    before = peak.read()
    block = np.ones(12_000_000)  # 96 MB
    assert peak.read() > before + 80_000_000
    del block
    if "VmHWM" in peak.source:
        peak.reset()
        assert peak.read() < before + 80_000_000


# --- the whole ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def profiled(tmp_path_factory):
    """One real profile with the embedded model: its folder, exit code and output."""
    folder = tmp_path_factory.mktemp("profile")
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        arguments = ["profile", "--frames", "4,8", "--repeats", "1", "--max-new-tokens", "3", "--json"]
        arguments += ["-o", str(folder / "report.json"), "--plot", str(folder / "profile.png")]
        code = main(arguments)
    return folder, code, out.getvalue()


def test_a_profile_has_all_its_numbers(profiled):
    _, code, out = profiled
    assert code == 0
    assert out.count("\n") == 1
    found = json.loads(out)
    assert [(row["frames"], row["method"]) for row in found["rows"]] == [
        (4, "vanilla"),
        (4, "st-simdiff"),
        (8, "vanilla"),
        (8, "st-simdiff"),
    ]
    for row in found["rows"]:
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
        measured = {name for name, seconds in row["seconds"].items() if seconds is not None}
        assert {*STAGES, *TOTALS} - measured <= {"importance"}
    assert found["machine"]["torch"]
    assert found["machine"]["device"] in ("cpu", "cuda", "mps")
    assert found["ratio"] == 0.3
    assert found["video"]["width"] == 640
    assert found["video_made"] is True


def test_the_report_on_disk_is_the_one_on_stdout(profiled):
    folder, _, out = profiled
    stored = json.loads((folder / "report.json").read_text())
    assert stored.keys() == json.loads(out).keys()
    assert [row["kept"] for row in stored["rows"]] == [row["kept"] for row in json.loads(out)["rows"]]
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
    found = json.loads(out)
    monkeypatch.setattr(report, "profile", lambda *_: found)
    assert main(["profile", "--frames", "4,8"]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("st-simdiff", "prefill", "importance", "cold %", "peak %"))
    assert f"{found['rows'][3]['saved_percent']['peak']:.1f}" in shown
    assert max(len(line) for line in shown.splitlines()) <= 130


def test_pictures_hold_any_number_of_methods_and_none(profiled, tmp_path):
    found = json.loads(profiled[2])
    empty = found | {"rows": [], "video": None, "dtype": None}
    doubled = found | {"rows": found["rows"] + [row | {"method": "other"} for row in found["rows"]]}
    for number, each in enumerate((empty, doubled)):
        plot.save_plot(tmp_path / f"{number}.svg", each)
        assert (tmp_path / f"{number}.svg").read_bytes().startswith(b"<?xml")


def test_a_caption_names_machine_model_and_ratio(profiled):
    found = json.loads(profiled[2])
    text = plot.caption(found).replace("\n", " ")
    assert all(part in text for part in ("tiny", "ratio 0.3", short(found["machine"]), "640 x 360"))


def test_a_report_that_cannot_be_written_is_a_sentence(tmp_path):
    with pytest.raises(StsimdiffError, match="cannot be written"):
        save_json(tmp_path / "gone" / "report.json", {})


@pytest.mark.slow
def test_a_cell_measures_in_this_process_too(tmp_path):
    make_clip(tmp_path / "clip.mp4", 2)
    found = Cell(job(video=str(tmp_path / "clip.mp4"), frames=500, method="uniform", device="cpu")).measure()
    assert found["frames_decoded"] == 30  # the clip has no more
    assert len(found["repeat_seconds"]) == 2
    assert found["load_seconds"]["ask"] > 0
    assert found["dtype"] == "float32"


@pytest.mark.parametrize("questions", [1, 5])
def test_all_questions_share_one_prefill(questions, tmp_path, monkeypatch):
    calls = []
    for name in ("ask", "_prefill"):
        real = getattr(Conversation, name)
        monkeypatch.setattr(Conversation, name, lambda *a, _n=name, _r=real, **k: calls.append(_n) or _r(*a, **k))
    make_clip(tmp_path / "clip.mp4", 8)
    Cell(job(video=str(tmp_path / "clip.mp4"), questions=questions, repeats=1, device="cpu")).measure()
    assert (calls.count("ask"), calls.count("_prefill")) == (2 * questions, 2)  # one run to warm up, one that counts
