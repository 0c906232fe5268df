"""Coverage and event recall, against double loops."""

from __future__ import annotations

import pytest
import torch

from stsimdiff_cli.evaluation.fidelity import coverage, event_recall, largest_changes
from tests.support.references.st_simdiff import video


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(a.double() @ b.double() / (a.double().norm() * b.double().norm()))


def test_coverage_is_the_mean_best_cosine_of_a_double_loop():
    features = torch.randn(4, 3, 5, 8, generator=torch.Generator().manual_seed(0))
    flat = features.flatten(0, 2)
    kept = flat[[0, 7, 8, 31]]
    expected = sum(max(cosine(token, other) for other in kept) for token in flat) / 60
    assert 0 < expected < 0.9
    assert coverage(features, kept) == pytest.approx(expected, abs=1e-6)
    assert coverage(features, kept, rows=7) == pytest.approx(expected, abs=1e-6)
    assert coverage(3 * features, kept.bfloat16()) == pytest.approx(expected, abs=0.01)


def test_coverage_is_1_when_all_tokens_are_kept_or_have_a_twin():
    features = torch.randn(1, 3, 5, 8, generator=torch.Generator().manual_seed(0)).repeat(4, 1, 1, 1)
    assert coverage(features, features.flatten(0, 2)) == pytest.approx(1, abs=1e-6)
    assert coverage(features, features[2].flatten(0, 1)) == pytest.approx(1, abs=1e-6)
    assert coverage(features, features[2].flatten(0, 1)[1:]) < 1 - 1e-3


def test_event_recall_is_the_share_of_the_largest_changes():
    features = torch.randn(1, 3, 4, 8, generator=torch.Generator().manual_seed(1)).repeat(10, 1, 1, 1)
    constant = largest_changes(video(features))
    assert constant.tolist() == []
    assert event_recall(constant, torch.arange(120)) is None
    stays = features.clone()
    stays[5:, 1, 2] *= -1
    assert largest_changes(video(stays)).tolist() == [5 * 12 + 6]
    flash = features.clone()
    flash[5, 1, 2] *= -1
    changes = largest_changes(video(flash))
    assert changes.tolist() == [66, 78]  # it comes, it goes
    assert event_recall(changes, torch.tensor([0, 66, 119])) == 0.5
    assert event_recall(changes, torch.arange(120)) == 1
    assert event_recall(changes, torch.tensor([54, 65, 67])) == 0


def test_the_larger_change_comes_first_and_ties_go_to_the_earlier_token():
    features = torch.zeros(3, 2, 2, 2)
    features[..., 0] = 1
    features[1:, 1, 1] = torch.tensor([0.0, 1.0])
    features[2, 0, 1] = torch.tensor([-1.0, 0.0])
    assert largest_changes(video(features)).tolist() == [9]
    features[1, 0, 0] = torch.tensor([-1.0, 0.0])
    assert largest_changes(video(features)).tolist() == [4]


@pytest.mark.parametrize(
    ("shape", "count"), [((2, 1, 1), 1), ((26, 2, 2), 1), ((27, 2, 2), 2), ((8, 10, 10), 7), ((1, 3, 3), 0)]
)
def test_the_largest_changes_are_a_hundredth_rounded_up(shape, count):
    features = torch.randn(*shape, 6, generator=torch.Generator().manual_seed(2))
    found = largest_changes(video(features)).tolist()
    flat, area = features.flatten(0, 2), shape[1] * shape[2]
    order = sorted(range(area, len(flat)), key=lambda i: cosine(flat[i], flat[i - area]))
    assert found == order[:count]
