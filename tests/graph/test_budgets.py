"""Ways from candidates to the budget, worked out by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stsimdiff_cli.graph.budgets import equal_shares, fit_representatives, sharpest, varied


def entered(rank: list[int], piece: list[int], whole: list[int], representative: list[bool] | None = None) -> list[int]:
    """The tokens in the order in which they become representatives while the budget grows."""
    open_ = torch.ones(len(rank), dtype=torch.bool) if representative is None else torch.tensor(representative)
    order: list[int] = []
    for wanted in range(1, int(open_.sum()) + 1):
        keep = fit_representatives(torch.tensor(rank), torch.tensor(piece), torch.tensor(whole), open_, wanted)
        new = set(keep.nonzero().flatten().tolist()) - set(order)
        assert len(new) == 1 and int(keep.sum()) == wanted
        order += new
    return order


# The golden ratio spreads 0, 1, 2, ... over the circle: 0, .618, .236, .854, .472, .090, .708, .326. So four of them in
# order are 0 2 1 3, and eight are 0 5 2 7 4 1 6 3.


def test_the_rate_falls_until_representatives_fit() -> None:
    # Community 0 of four tokens, community 1 of two, community 2 of one; places within them.
    # Rates 0, 0, 0 (the larger community first), 1/4, then 1/2 twice (the larger first), then 3/4.
    community = [0, 0, 0, 0, 1, 1, 2]
    assert entered([1, 0, 2, 3, 0, 1, 0], community, community) == [1, 4, 6, 0, 2, 5, 3]


def test_equal_communities_are_represented_all_over_the_video_before_they_are_complete() -> None:
    alone = list(range(8))
    assert entered([0] * 8, alone, alone) == [0, 5, 2, 7, 4, 1, 6, 3]


def test_the_pieces_of_a_community_take_turns() -> None:
    # Four pieces of two tokens, whose order is 0 2 1 3: the first token of each enters at rates 0, 1/8, 2/8, 3/8, the
    # second at 4/8 and so on.
    piece = [0, 0, 1, 1, 2, 2, 3, 3]
    assert entered([0, 1] * 4, piece, [0] * 8) == [0, 4, 2, 6, 1, 5, 3, 7]


def test_a_whole_community_comes_between_the_turns_of_one_in_pieces() -> None:
    # Tokens 0 to 5 in three pieces of two, whose turns are 0 2 1 (0, .236, .618): rates 0 1/6 2/6, then 3/6 4/6 5/6.
    # Tokens 6 to 8 are one piece: rates 0 1/3 2/3, at each of which the larger community comes first.
    piece = [0, 0, 1, 1, 2, 2, 3, 3, 3]
    whole = [0] * 6 + [1] * 3
    assert entered([0, 1, 0, 1, 0, 1, 0, 1, 2], piece, whole) == [0, 6, 4, 2, 7, 1, 5, 8, 3]


def test_only_representatives_are_taken() -> None:
    assert entered([0, 1, 2], [0, 0, 0], [0, 0, 0], [False, True, False]) == [1]
    nobody = torch.zeros(3, dtype=torch.bool)
    assert not fit_representatives(torch.arange(3), 0 * torch.arange(3), 0 * torch.arange(3), nobody, 2).any()


def test_events_of_a_community_count_less_and_less() -> None:
    # Community 0: sharpness 9, 8 and 6, the 7 is no event. Community 1: 5 and 5, the lower index first.
    sharpness = torch.tensor([6.0, 9.0, 7.0, 5.0, 8.0, 5.0])
    event = torch.tensor([True, True, False, True, True, True])
    score = varied(sharpness, event, torch.tensor([0, 0, 0, 1, 0, 1]))
    assert score.tolist() == [2, 9, 0, 5, 4, 2.5]
    # Of the three sharpest two were in community 0; now the second is the first of community 1.
    assert sharpest(sharpness, event, 2).tolist() == [False, True, False, False, True, False]
    assert sharpest(score, event, 2).tolist() == [False, True, False, True, False, False]


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
