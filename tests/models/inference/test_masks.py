"""Masks and pieces of prompts, held against their definition, token by token."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from stsimdiff_cli.errors import RequestError
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.inference import masks
from stsimdiff_cli.models.inference.language_model import LanguageModel
from stsimdiff_cli.models.inference.masks import pieces, together, within
from tests.support.checkpoints import CHECKPOINTS
from tests.support.runtimes import FP32

#: Two words, a slot, its end, a slot of which little is left, and words.
POSITIONS = torch.tensor([0, 1, 2, 3, 5, 8, 9, 14, 15, 16])
NONE = torch.full_like(POSITIONS, -1)
#: No groups; the two slots apart, as in Gemma 4; both and the end of the first as one, and the words between not.
GROUPS = {
    "none": NONE,
    "slots": torch.tensor([-1, -1, 0, 0, 0, -1, 1, -1, -1, -1]),
    "one": torch.tensor([-1, -1, 0, 0, 0, -1, 0, 0, -1, -1]),
}


@pytest.mark.parametrize("groups", GROUPS.values(), ids=GROUPS)
@pytest.mark.parametrize("past", [0, 2, 5, 9])
@pytest.mark.parametrize("window", [1, 3, 7, 100])
def test_every_token_sees_its_group_and_what_is_near_enough(window, past, groups):
    count = len(POSITIONS)
    seen = torch.ones(count - past, count, dtype=torch.bool).tril(past)
    wide = together(seen, groups)
    near = within(wide, POSITIONS, window)
    for row in range(past, count):
        for key in range(count):
            expected = key <= row or int(groups[row]) == int(groups[key]) != -1
            assert bool(wide[row - past, key]) == expected
            assert bool(near[row - past, key]) == (expected and int(POSITIONS[row] - POSITIONS[key]) < window)


def test_pieces_cover_the_prompt_and_part_no_group(monkeypatch):
    assert list(pieces(NONE, 4, masks=False)) == [(0, 4), (4, 8), (8, 10)]
    assert list(pieces(GROUPS["slots"], 3, masks=True)) == [(0, 5), (5, 8), (8, 10)]
    assert list(pieces(GROUPS["one"], 3, masks=True)) == [(0, 8), (8, 10)]
    assert list(pieces(GROUPS["one"], 1, masks=True)) == [(0, 1), (1, 2), (2, 8), (8, 9), (9, 10)]
    assert list(pieces(torch.tensor([0, 1, 0, 2, 1, -1, 2, -1]), 1, masks=True)) == [(0, 7), (7, 8)]  # one in another
    assert list(pieces(GROUPS["slots"], 100, masks=True)) == [(0, 10)]
    monkeypatch.setattr(masks, "MASK", 40)
    assert list(pieces(NONE, 100, masks=True)) == [(0, 4), (4, 8), (8, 10)]
    assert list(pieces(NONE[:0], 4, masks=True)) == []


@pytest.mark.parametrize("name", sorted({"gemma4", "molmo2"} & set(CHECKPOINTS)))
def test_attention_that_takes_no_masks_is_refused_where_they_are_needed(name, tmp_path):
    family = open_family(str(CHECKPOINTS[name](tmp_path / "model")))
    with pytest.raises(RequestError, match=r"those before them.*--attn flash_attention_2 has no masks") as error:
        LanguageModel(family, replace(FP32, attention="flash_attention_2"))
    assert "sdpa or eager" in str(error.value.hint)
