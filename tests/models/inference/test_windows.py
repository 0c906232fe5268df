"""Windows in original positions, held against their definition, token by token."""

from __future__ import annotations

import pytest
import torch

from stsimdiff_cli.models.inference import windows
from stsimdiff_cli.models.inference.windows import pieces, within

#: Two words, a slot, its end, a slot of which little is left, and words.
VISUAL = torch.tensor([-1, -1, 0, 1, 3, -1, 8, -1, -1, -1])
POSITIONS = torch.tensor([0, 1, 2, 3, 5, 8, 9, 14, 15, 16])
SLOTS = [[2, 3, 4], [6]]


@pytest.mark.parametrize("mutual", [False, True])
@pytest.mark.parametrize("past", [0, 2, 5, 9])
@pytest.mark.parametrize("window", [1, 3, 7, 100])
def test_every_token_sees_what_is_near_enough(window, past, mutual):
    count = len(POSITIONS)
    seen = torch.ones(count - past, count, dtype=torch.bool).tril(past)
    got = within(seen, POSITIONS, window, VISUAL if mutual else None)
    for row in range(past, count):
        for key in range(count):
            together = mutual and any(row in slot and key in slot for slot in SLOTS)
            near = int(POSITIONS[row] - POSITIONS[key]) < window
            assert bool(got[row - past, key]) == ((key <= row or together) and near)


def test_pieces_cover_the_prompt_and_leave_slots_whole_where_they_must_be(monkeypatch):
    assert list(pieces(VISUAL, 4)) == [(0, 4), (4, 8), (8, 10)]
    assert list(pieces(VISUAL, 3, mutual=True)) == [(0, 5), (5, 8), (8, 10)]
    assert list(pieces(VISUAL, 100, masks=True, mutual=True)) == [(0, 10)]
    monkeypatch.setattr(windows, "MASK", 40)
    assert list(pieces(VISUAL, 100, masks=True)) == [(0, 4), (4, 8), (8, 10)]
    assert list(pieces(VISUAL[:0], 4)) == []
