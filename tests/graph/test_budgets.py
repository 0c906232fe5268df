"""Ways from candidates to the budget, worked out by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stsimdiff_cli.graph.budgets import equal_shares, fit_representatives, sharpest


def test_the_rate_falls_until_representatives_fit() -> None:
    # Community 0 of four tokens, community 1 of two, community 2 of one; places within them.
    community = torch.tensor([0, 0, 0, 0, 1, 1, 2])
    rank = torch.tensor([1, 0, 2, 3, 0, 1, 0])
    nothing = torch.zeros(7, dtype=torch.bool)
    entered = []
    for wanted in range(1, 8):
        keep = fit_representatives(rank, community, wanted, nothing).nonzero().flatten().tolist()
        entered += [i for i in keep if i not in entered]
    # Rates 0, 0, 0 (the larger community first), 1/4, then 1/2 twice (the larger first), then 3/4.
    assert entered == [1, 4, 6, 0, 2, 5, 3]


def test_tokens_that_are_kept_anyway_are_not_counted_as_representatives() -> None:
    keep = fit_representatives(torch.tensor([0, 1, 2]), torch.tensor([0, 0, 0]), 1, torch.tensor([True, False, False]))
    assert keep.tolist() == [False, True, False]


def test_the_sharpest_events_are_kept_and_ties_go_to_the_lower_index() -> None:
    event = torch.tensor([True, False, True, True])
    sharpness = torch.tensor([0.5, 9.0, 0.9, 0.5])
    assert sharpest(sharpness, event, 2).tolist() == [True, False, True, False]
    assert sharpest(sharpness, event, 9).tolist() == event.tolist()
    assert not sharpest(sharpness, event, 0).any()


@pytest.mark.parametrize(
    ("sizes", "budget", "expected"),
    [
        ([6, 3, 1], 10, [6, 3, 1]),
        ([6, 3, 1], 5, [3, 1, 1]),  # 3, 1.5, 0.5: the last has one, which leaves 4 * 6/9 and 4 * 3/9
        ([60, 30, 10], 10, [6, 3, 1]),
        ([6, 3, 1], 2, [1, 1, 0]),
        ([2, 2, 2], 4, [2, 1, 1]),
        ([5], 3, [3]),
    ],
)
def test_every_group_gets_its_share(sizes: list[int], budget: int, expected: list[int]) -> None:
    group = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    assert equal_shares(group, budget).tolist() == expected


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.floats(0, 1))
def test_shares_add_up_and_never_exceed_a_group(sizes: list[int], part: float) -> None:
    group = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    budget = round(part * len(group))
    share = equal_shares(group, budget)
    assert int(share.sum()) == budget
    assert all(0 <= s <= size for s, size in zip(share.tolist(), sizes, strict=True))
    if budget >= len(sizes):
        assert min(share.tolist()) >= 1
