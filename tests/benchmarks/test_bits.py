"""benchmarks/bits and benchmarks/when: trials against plain loops, and reports of the shipped model."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from benchmarks import when
from benchmarks.bits import forms
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.storage.reading import StoredVideo
from stsimdiff_cli.synthetic.script import Event
from tests.support.tokens import compressed

REPORTS = Path(__file__).parents[2] / "benchmarks" / "reports"


def plainly(row: list[float], bits: int) -> tuple[list[float], float]:
    """The best of eleven symmetric grids for one row of numbers, and its squared error."""
    found: tuple[list[float], float] = ([], math.inf)
    for step in range(11 if bits <= 4 else 1):
        scale = (1 - 0.06 * step) * max(map(abs, row)) / ((2**bits - 1) / 2)
        grid = [(code - (2**bits - 1) / 2) * scale for code in range(2**bits)]
        nearest = [min(grid, key=lambda level, x=x: abs(level - x)) for x in row]
        error = sum((level - x) ** 2 for level, x in zip(nearest, row, strict=True))
        found = min(found, (nearest, error), key=lambda pair: pair[1])
    return found


@pytest.mark.parametrize("bits", [8, 4, 3])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_trial_is_the_nearest_of_the_best_grid(bits, axis):
    values = torch.randn(6, 10, generator=torch.Generator().manual_seed(bits))
    got = forms.rounded(values, bits, axis)
    lines = values.tolist() if axis == 1 else values.T.tolist()
    expected = torch.tensor([plainly(line, bits)[0] for line in lines])
    torch.testing.assert_close(got, expected if axis == 1 else expected.T, rtol=1e-4, atol=1e-5)


def test_fp8_reaches_the_largest_number_of_every_token():
    values = torch.randn(5, 64)
    got = forms.fp8(values)
    torch.testing.assert_close(got.abs().amax(1), values.abs().amax(1))
    assert 0.01 < float((got - values).norm() / values.norm()) < 0.04  # three bits of mantissa


def test_every_offered_form_goes_through_a_file(tmp_path):
    made = list(forms.forms_of(compressed(), tmp_path, trials=True))
    assert [name for name, size, _ in made if size] == list(forms.OFFERED)
    assert [name for name, size, _ in made if size is None] == list(forms.TRIALS)
    assert StoredVideo(tmp_path / "video.safetensors").packing.bits == 3
    first = made[0][2].features.tensor()
    errors = {name: float((video.features.tensor() - first).norm() / first.norm()) for name, _, video in made}
    assert errors["int8"] < errors["fp8, scale a token"] < errors["int4"] < errors["int3"] < errors["2 bits, rotated"]


def test_slots_near_an_event_are_its_own_and_the_two_next_to_them():
    assert when._near(Event("flash", 3, 4), 8).tolist() == [False, False, True, True, True, True, False, False]
    assert when._near(Event("vanish", 0, 0), 3).tolist() == [True, True, False]


#: The model of version 0.1, with which the report about bits was made, as benchmarks/RESULTS.md says.
BEFORE = "188514904e39126e127f50dd5b878387"


@pytest.mark.parametrize("name", ["bits", "when"])
def test_a_report_is_of_the_model_that_its_page_names(name):
    report = json.loads((REPORTS / name / "report.json").read_text())
    shipped = open_family("tiny").checkpoint.fingerprint
    old = (
        name == "bits"
        and "the embedded model of version 0.1 (not measured again" in (REPORTS.parent / "RESULTS.md").read_text()
    )
    assert (report["model"], report["fingerprint"]) == ("tiny", BEFORE if old else shipped)
    assert report["rows"]
