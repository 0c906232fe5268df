"""Cells: what they measure, and what happens when one fails. No test asserts a duration."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from stsimdiff_cli.cli.app import main
from stsimdiff_cli.errors import RequestError
from stsimdiff_cli.models.inference.conversation import Conversation
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.profiling import report
from stsimdiff_cli.profiling.clip import write_default_clip
from stsimdiff_cli.profiling.job import Job
from stsimdiff_cli.records import FrameSize
from tests.support.profile_jobs import cell_numbers, make_job, measure


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    """A clip of 30 frames."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_default_clip(path, 2)
    return str(path)


def test_a_job_travels_as_flat_json():
    job = make_job(runtime=Runtime("cpu", "float32", "eager"), questions=5)
    assert job.to_json() == {
        "video": "clip.mp4",
        "model": "tiny",
        "frames": 4,
        "method": "vanilla",
        "importance": None,
        "ratio": "0.3",
        "new_tokens": 3,
        "repeats": 2,
        "device": "cpu",
        "dtype": "float32",
        "attention": "eager",
        "questions": 5,
    }
    quantized = make_job(runtime=Runtime(quantize="4bit"), workers=2, size=FrameSize(1024, 4096))
    assert [Job.from_json(json.loads(json.dumps(each.to_json()))) for each in (job, quantized)] == [job, quantized]


def command(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_crashed_cell_is_a_row_and_stops_nothing(monkeypatch):
    codes = iter(
        [
            "import os; os.kill(os.getpid(), 9)",
            "raise MemoryError('too much')",
            f"print({json.dumps(json.dumps(cell_numbers(1.0, 1.0, 1)))})",
        ]
    )
    real = report.run_cell

    def next_cell(job: Job) -> dict:
        monkeypatch.setattr(report, "COMMAND", command(next(codes)))
        return real(job)

    monkeypatch.setattr(report, "run_cell", next_cell)
    measured = report.profile([make_job(method=name) for name in ("vanilla", "random", "uniform")])
    errors = [row["error"] for row in measured["rows"]]
    assert errors == ["ended by SIGKILL (out of memory?)", "MemoryError: too much", None]
    assert all(row["saved_percent"] is None for row in measured["rows"])
    assert measured["dtype"] == "float32"  # from the cell that succeeded
    json.dumps(measured)


def test_a_failed_cell_makes_the_exit_code_1(monkeypatch, capsys):
    monkeypatch.setattr(report, "COMMAND", command("raise SystemExit('no luck')"))
    assert main(["profile", "--frames", "2", "--methods", "vanilla"]) == 1
    assert "vanilla at 2 frames failed: no luck" in capsys.readouterr().err


def test_a_wrong_request_found_by_a_cell_ends_the_profile(monkeypatch):
    answer = json.dumps({"error": "There is no such device.", "hint": "Use cpu.", "exit_code": 2})
    monkeypatch.setattr(report, "COMMAND", command(f"print({json.dumps(answer)})"))
    with pytest.raises(RequestError, match="no such device"):
        report.profile([make_job(), make_job()])


def test_a_user_s_mistake_in_a_cell_comes_back_as_one():
    with pytest.raises(RequestError, match=r"nowhere\.mp4") as caught:
        report.run_cell(make_job(video="nowhere.mp4"))
    assert caught.value.hint


def test_a_part_loads_its_model_once_for_all_repeats(clip, monkeypatch):
    from stsimdiff_cli.models.inference import language_model as language
    from stsimdiff_cli.models.inference import vision_encoder as vision

    loads = []
    for module, name in ((vision, "load_vision"), (language, "load_language")):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, _name=name, _real=real: loads.append(_name) or _real(*a))
    measure(make_job(video=clip, frames=2, repeats=2))
    assert loads == ["load_vision", "load_language"]


_PEAKS = """
import numpy, torch
from stsimdiff_cli.profiling import memory
peak = memory.PeakMemory(torch.device("cpu"))
peak.reset()
before = peak.read()
block = numpy.ones(12_000_000)  # 96 MB
assert peak.read() > before + 80_000_000
del block
if "VmHWM" in peak.source:
    peak.reset()
    assert peak.read() < before + 80_000_000
"""


def test_a_peak_is_forgotten_when_reset():
    """In a process of its own: the kernel may take memory that was not used for long from a large one meanwhile."""
    subprocess.run([sys.executable, "-c", _PEAKS], check=True)


def test_a_cell_measures_every_repeat_and_as_many_frames_as_there_are(clip):
    cell = measure(make_job(video=clip, frames=500, method="uniform", runtime=Runtime("cpu")))
    assert cell["frames_decoded"] == 30  # the clip has no more
    assert len(cell["repeat_seconds"]) == 2
    assert cell["load_seconds"]["ask"] > 0
    assert cell["dtype"] == "float32"


@pytest.mark.parametrize("questions", [1, 5])
def test_all_questions_share_one_prefill(questions, clip, monkeypatch):
    calls = []
    for name in ("ask", "_prefill"):
        real = getattr(Conversation, name)
        monkeypatch.setattr(Conversation, name, lambda *a, _n=name, _r=real, **k: calls.append(_n) or _r(*a, **k))
    measure(make_job(video=clip, questions=questions, repeats=1, runtime=Runtime("cpu")))
    assert (calls.count("ask"), calls.count("_prefill")) == (2 * questions, 2)  # one run to warm up, one measured
