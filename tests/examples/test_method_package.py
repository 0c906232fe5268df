"""examples/method-package: installed, its method works everywhere a built-in one does; and it keeps the contract."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import stsimdiff_cli as st
from stsimdiff_cli.ratio import parse_ratio
from tests.support.clip_factory import SAMPLES
from tests.support.fake_llm import FakeLlm, not_declared
from tests.support.references.st_simdiff import ceil_of, video

ROOT = SAMPLES.parent
PACKAGE = ROOT / "examples" / "method-package"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> dict[str, str]:
    """The environment of a Python in which the package is installed; without a network."""
    build, target = tmp_path_factory.mktemp("build"), tmp_path_factory.mktemp("site")
    for name in ("pyproject.toml", "README.md", "stsimdiff_whole_slots.py"):  # so that nothing is built in the checkout
        (build / name).write_text((PACKAGE / name).read_text())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "--target", str(target), str(build)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(target), str(ROOT)]), "COLUMNS": "200"}


def stsimdiff(environment: dict[str, str], *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stsimdiff_cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def tokens(installed, tmp_path_factory) -> Path:
    """A tokens file with the evidence that the method declares: none."""
    path = tmp_path_factory.mktemp("tokens") / "flash.tokens.safetensors"
    encode = ("encode", SAMPLES / "flash.mp4", "-o", path, "--frames", 7, "--evidence", "auto", "--json")
    done = stsimdiff(installed, *encode, "--method", "whole-slots:pick=change")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["evidence"] == []
    return path


def test_the_listing_names_the_method_and_its_package(installed):
    done = stsimdiff(installed, "methods")
    assert (done.returncode, done.stderr) == (0, "")
    assert "whole slots, evenly spaced or where the video changes most" in done.stdout
    assert "from the package stsimdiff-whole-slots 0.1.0: whole-slots\n" in done.stdout
    rows = json.loads(stsimdiff(installed, "methods", "--json").stdout)["methods"]
    assert rows[-1] == {
        "method": "whole-slots",
        "idea": "whole slots, evenly spaced or where the video changes most",
        "needs": "nothing",
        "runs": "tokens",
        "source": "control",
        "package": "stsimdiff-whole-slots 0.1.0",
    }
    assert {row["package"] for row in rows[:-1]} == {None}


def test_its_parameters_are_explained(installed):
    done = stsimdiff(installed, "methods", "whole-slots", "--json")
    (row,) = json.loads(done.stdout)["parameters"]
    assert (row["parameter"], row["default"]) == ("pick", "spaced")


@pytest.mark.parametrize(
    ("method", "ratio"), [("whole-slots", "0.3"), ("whole-slots:pick=change", "0.07"), ("whole-slots", "1")]
)
def test_compress_keeps_exactly_the_budget(installed, tokens, tmp_path, method, ratio):
    path = tmp_path / "kept.safetensors"
    done = stsimdiff(installed, "compress", tokens, "-o", path, "--ratio", ratio, "--method", method, "--json")
    assert done.returncode == 0, done.stderr
    data, kept = json.loads(done.stdout), st.load(path)
    assert data["method"] == kept.method["name"] == "whole-slots"
    assert data["kept"] == len(kept.index) == ceil_of(ratio, kept.grid.tokens)


def test_bench_measures_it_under_all(installed, tmp_path):
    code = (
        "from stsimdiff_cli.evaluation.plan import make_plan\n"
        "print(make_plan('all', '0.5').methods, make_plan('whole-slots:pick=change', '0.5').methods)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=installed)
    assert done.stdout.strip().endswith("'whole-slots'] ['vanilla', 'whole-slots:pick=change']"), done.stderr


def test_a_misspelt_name_finds_it(installed, tokens, tmp_path):
    command = ("compress", tokens, "-o", tmp_path / "kept", "--ratio", 0.5, "--method", "whole-slot")
    done = stsimdiff(installed, *command)
    assert done.returncode == 2
    assert "Did you mean 'whole-slots'?" in done.stderr


# --- The method itself ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole_slots():
    """The class, from its file."""
    spec = importlib.util.spec_from_file_location("stsimdiff_whole_slots", PACKAGE / "stsimdiff_whole_slots.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module.WholeSlots
    del sys.modules[spec.name]


def select(method, features: torch.Tensor, ratio: str) -> list[int]:
    return method.select(video(features), parse_ratio(ratio), FakeLlm(not_declared), lambda _: None).index.tolist()


@pytest.mark.parametrize("pick", ["spaced", "change"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 4), (5, 1, 1), (6, 3, 4)])
def test_exactly_the_budget_in_order_at_every_ratio(whole_slots, shape, pick):
    features = torch.randn((*shape, 8), generator=torch.Generator().manual_seed(0))
    count = features[..., 0].numel()
    for percent in range(1, 101):
        ratio = str(percent / 100)
        index = select(whole_slots(pick=pick), features, ratio)
        assert len(index) == ceil_of(ratio, count)
        assert index == sorted(set(index)) and 0 <= index[0] <= index[-1] < count


def test_spaced_slots_are_the_middles_of_equal_stretches(whole_slots):
    # 6 slots of 2 tokens; 5 tokens reach 3 slots: 1, 3, 5. The last keeps one token, the second.
    assert select(whole_slots(), torch.ones((6, 1, 2, 4)), "0.4") == [2, 3, 6, 7, 11]


def test_change_takes_the_first_slot_and_then_what_is_unlike_the_slot_before(whole_slots):
    features = torch.eye(2)[[0, 0, 0, 1, 1, 1]].view(6, 1, 1, 2).expand(6, 1, 2, 2)
    assert select(whole_slots(pick="change"), features, "0.3") == [0, 1, 6, 7]  # slots 0 and 3
    assert select(whole_slots(pick="change"), features, "0.5") == [0, 1, 2, 3, 6, 7]  # of equal ones the earlier
