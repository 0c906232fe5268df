"""`make bench-gpu` in small: every run that a GPU would make, on the CPU."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.loading.presets import PRESETS
from stsimdiff_cli.profiling import report
from tests.support.profile_jobs import measure
from tests.support.trace_format import check_trace

FILE = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def gpu():
    spec = importlib.util.spec_from_file_location("benchmarks_gpu", FILE)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_all_runs_in_small_on_the_cpu(gpu, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "run_cell", lambda job: json.loads(json.dumps(measure(job))))
    monkeypatch.setattr(gpu, "core", lambda folder, small: None)  # has a test of its own
    assert gpu.main(["--small", "--folder", str(tmp_path)]) == 0
    first, many = (json.loads((tmp_path / f"{run.name}.json").read_text()) for run in gpu.SMALL_RUNS)
    assert [row["frames"] for row in first["rows"]] == [2, 2, 4, 4] and many["questions"] == 16
    assert all(row["grid"] == [row["frames"], 14, 14] and row["error"] is None for row in first["rows"] + many["rows"])
    assert all(row["kept"] == -(-row["tokens"] * 3 // 10) for row in first["rows"] if row["method"] != "vanilla")
    assert (tmp_path / "gpu.png").read_bytes()[:4] == b"\x89PNG"
    check_trace(json.loads((tmp_path / "gpu.trace.json").read_text()))


def test_the_small_model_differs_from_the_preset_in_sizes_only(gpu, tmp_path):
    gpu.arguments_of(gpu.SMALL_RUNS[0], tmp_path, small=True)
    family = open_family(str(tmp_path / "model"))
    assert family.name == "llava_onevision" and family.config.vision_config.image_size == 384
    assert family.config.vision_config.num_hidden_layers == family.config.text_config.num_hidden_layers == 3


def test_the_runs_on_a_gpu_are_possible_requests(gpu, tmp_path):
    assert {run.preset for run in gpu.RUNS} <= set(PRESETS)
    assert {run.questions for run in gpu.RUNS} == {1, 16}
    for run in gpu.RUNS:
        line = gpu.arguments_of(run, tmp_path, small=False)
        assert line[:5] == ["profile", "--device", "cuda", "--dummy-weights", run.preset]


def test_the_selection_is_measured(gpu, tmp_path):
    gpu.core(tmp_path, small=True)
    (row,) = [json.loads(line) for line in (tmp_path / "gpu-core.jsonl").read_text().splitlines()]
    assert row["shape"][0] == 4 and row["seconds"]["copy"][0] > 0
