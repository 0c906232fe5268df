"""`st-simdiff+` keeps what its plain reference keeps, in memory, in chunks and from a file; and a case by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stsimdiff_cli.errors import RequestError, StsimdiffError
from stsimdiff_cli.methods.st_simdiff import StSimDiff, StSimDiffPlus
from stsimdiff_cli.ratio import parse_ratio
from stsimdiff_cli.records import Selection, VideoTokens
from stsimdiff_cli.storage import file_features
from stsimdiff_cli.storage.reading import StoredVideo
from stsimdiff_cli.storage.writing import save_tokens
from stsimdiff_cli.token_features import DenseFeatures
from tests.support.cases import CONTENTS, PlusCase, assert_same_selection, make_features, plus_cases
from tests.support.references.st_simdiff import video
from tests.support.references.st_simdiff_plus import st_simdiff_plus

REPRESENTATIVE, EVENT = 1, 2


def select(features: torch.Tensor, ratio: str, **parameters: Any) -> Selection:
    return StSimDiffPlus(**parameters).select(video(features), parse_ratio(ratio), None, lambda name: None)


# --- Against the reference --------------------------------------------------------------------------------------------


@settings(max_examples=400, deadline=None, derandomize=True)
@given(case=plus_cases())
def test_selection_equals_the_reference(case: PlusCase) -> None:
    assert_same_selection(case.selection(), case.expected())


class Chunks(DenseFeatures):
    """Features in chunks of some slots, read into one buffer again and again, as from a file."""

    slots = 1

    @property
    def chunk_rows(self) -> int:
        return self.slots

    def chunks(self, rows: int | None = None, wanted: torch.Tensor | None = None) -> Iterator[tuple[int, torch.Tensor]]:
        for begin, chunk in super().chunks(rows, wanted):
            buffer = chunk.clone()
            yield begin, buffer
            buffer.fill_(math.nan)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(case=plus_cases(), slots=st.integers(1, 9))
def test_selection_chunk_by_chunk_equals_that_of_the_whole(case: PlusCase, slots: int) -> None:
    whole, tokens = case.selection(), video(case.features)
    features = Chunks(case.features)
    features.slots = slots
    assert_same(case.selection(VideoTokens(tokens.grid, features)), whole)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(case=plus_cases(), slots=st.integers(1, 9))
def test_selection_from_a_file_equals_that_in_memory(case: PlusCase, slots: int) -> None:
    whole, tokens = case.selection(), video(case.features)
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder) / "video.tokens.safetensors"
        save_tokens(path, tokens)
        patch.setattr(file_features, "CHUNK", slots * case.features[0].nbytes)
        stored = StoredVideo(path).tokens(in_memory=False)
        assert stored.features.chunk_rows == slots
        assert_same(case.selection(stored), whole)


def assert_same(got: Selection, expected: Selection) -> None:
    """The same tokens for the same reasons."""
    assert got.index.tolist() == expected.index.tolist()
    assert got.kind.tolist() == expected.kind.tolist()
    assert got.community.tolist() == expected.community.tolist()
    assert got.counts == expected.counts


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 4, 3), (12, 1, 1), (10, 1, 3), (9, 3, 1), (8, 2, 2)])
def test_selection_equals_the_reference_on_every_thin_grid(content: str, shape: tuple[int, int, int]) -> None:
    features = make_features(content, shape, width=3, seed=5)
    for ratio in ("0.01", "0.3", "0.5", "0.99", "1"):
        for far in (0, 1, 8):
            expected = st_simdiff_plus(features, ratio, far=far)
            assert_same_selection(select(features, ratio, far=far), expected)


# --- The budget -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("representatives", ["coverage", "central"])
@pytest.mark.parametrize("content", CONTENTS)
def test_exactly_the_budget_is_kept_and_every_token_has_a_reason(content: str, representatives: str) -> None:
    for shape in ((1, 1, 1), (1, 3, 4), (24, 4, 5), (33, 2, 3)):
        features = make_features(content, shape, width=16, seed=1)
        for ratio in ("0.02", "0.1", "0.5", "1"):
            for dtype in (torch.float32, torch.bfloat16):
                got = select(features.to(dtype), ratio, representatives=representatives)
                budget = parse_ratio(ratio).budget(math.prod(shape))
                assert len(got.index) == got.counts["kept"] == budget
                assert bool((got.kind > 0).all())
                assert int((got.kind & EVENT).bool().sum()) == got.counts["events"] <= 0.4 * budget


def test_the_share_of_events_is_exact_where_binary_floats_are_not() -> None:
    # 0.29 * 100 is 28.999999999999996 in binary floats.
    features = make_features("different", (10, 5, 2), 0, 0)
    assert select(features, "1", event_share=0.29).counts["events"] == 29


def test_with_a_budget_below_the_number_of_communities_the_largest_come_first() -> None:
    # A background of twelve tokens, a thing of four and four tokens alone; no events, five tokens to keep.
    kinds = torch.tensor([[0] * 4, [0] * 4, [0] * 4, [1] * 4, [2, 3, 4, 5]])
    features = torch.eye(6)[kinds].view(1, 5, 4, 6)
    for ratio, communities in (("0.05", 1), ("0.1", 2), ("0.2", 4)):
        got = select(features, ratio, max_community="none")
        assert got.counts["communities"] == 6
        assert len(set(got.community.tolist())) == communities
        assert set(got.community.tolist()) >= {0, 1} or ratio == "0.05"


def test_a_still_video_is_spread_over_its_cells() -> None:
    # One community of 3 x 3 cells over nine slots is cut cell by cell into nine pieces; they take turns, so that nine
    # tokens show nine cells. Without an event all of them are representatives.
    got = select(make_features("constant", (9, 3, 3), 4, 0), "0.11")
    assert got.counts["communities"] == 9 and got.counts["events"] == 0
    assert sorted((got.index % 9).tolist()) == list(range(9))
    assert got.kind.tolist() == [REPRESENTATIVE] * 9


# --- Worked out by hand -----------------------------------------------------------------------------------------------
#
# One cell over ten slots, unit vectors along axes: a a a b b b b b b c. Similar neighbours make the communities
# {0 1 2}, {3 .. 8}, {9}; sqrt(10) = 3 cuts the second into {3 4 5} {6 7 8}. Broken edges: 2-3, 8-9, and the far edge
# 0-8 (one from slot 4 would end in slot 12). With both ends the events are 0 2 3 8 9, all with difference 1.
# At r = 0.5 the budget is 5, and events may take 0.4 of it: 2. In order of sharpness: 0 (1), 3 (1), 8 (1), 9 (1) and 2
# (1/2, the second of its community), ties by index: the events 0 and 3.
# Quotas are ceil(0.5 n) = 2 2 2 1. Representatives: of {0 1 2}, which has an event, token 1; likewise 4 of {3 4 5}; of
# {6 7 8} 6 and 7; and 9.
# Three of them fit. The pieces {3 4 5} and {6 7 8} are the communities 1 and 2, and by the golden ratio (.618, .236)
# the second has the first turn. So 6 has rate 0, 7 2/6, 4 (place 1) 3/6; 1 has 1/3, 9 has 0. Of 7 and 1, both at 1/3,
# the one of the larger community is kept.


def by_hand() -> torch.Tensor:
    return torch.eye(3)[[0, 0, 0, 1, 1, 1, 1, 1, 1, 2]].view(10, 1, 1, 3)


def test_hand_case_keeps_two_events_and_three_representatives() -> None:
    got = select(by_hand(), "0.5")
    assert got.index.tolist() == [0, 3, 6, 7, 9]
    assert got.kind.tolist() == [EVENT, EVENT, REPRESENTATIVE, REPRESENTATIVE, REPRESENTATIVE]
    assert got.community.tolist() == [0, 1, 2, 2, 3]
    assert got.counts == {
        "tokens": 10,
        "kept": 5,
        "candidates": 7,
        "representatives": 5,
        "events": 2,
        "communities": 4,
        "largest_community": 3,
    }


@pytest.mark.parametrize(
    ("parameters", "events"),
    [
        ({}, [0, 2, 3, 8, 9]),
        ({"far": 0}, [2, 3, 8, 9]),
        ({"ends": "later"}, [3, 8, 9]),
        ({"ends": "later", "far": 0}, [3, 9]),
        ({"events": False}, []),
        ({"tau_diff": 0.0}, []),
        ({"tau_diff": "p50"}, [0, 2, 3, 8, 9]),
    ],
)
def test_hand_case_has_these_events(parameters: dict[str, Any], events: list[int]) -> None:
    # At ratio 1 everything is kept, so that kind shows every event.
    got = select(by_hand(), "1", event_share=1.0, **parameters)
    assert (got.kind & EVENT).nonzero().flatten().tolist() == events


def test_varied_events_come_from_more_communities() -> None:
    # Without `varied` the first three of the events 0 2 3 8 9 are kept, with it 2 is the second of {0 1 2}.
    for varied, events in ((False, [0, 2, 3]), (True, [0, 3, 8])):
        got = select(by_hand(), "0.6", event_share=0.5, varied=varied)
        assert got.index[got.kind == EVENT].tolist() == events


def test_the_reference_agrees_with_the_hand_case() -> None:
    expected = st_simdiff_plus(by_hand(), "0.5")
    assert expected.communities == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert (expected.representatives, expected.events) == ([1, 4, 6, 7, 9], [0, 3])
    assert expected.kept == [0, 3, 6, 7, 9]


# --- Extreme and broken features --------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1e30, 1e37, 1e-30, 1e-37])
@pytest.mark.parametrize("content", ["scenes", "noise", "integers"])
def test_very_large_or_small_features_give_the_same_choice(content: str, factor: float) -> None:
    for seed in range(5):
        features = make_features(content, (12, 3, 2), 6, seed)
        assert_same(select(features * factor, "0.3"), select(features, "0.3"))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_features_that_are_not_finite_are_refused_with_their_position(bad: float) -> None:
    features = torch.ones(10, 3, 5, 6)
    features[8, 1, 4, 3] = bad
    with pytest.raises(StsimdiffError, match="slot 8, row 1, column 4 holds a NaN or an infinite value"):
        select(features, "0.5")


# --- Parameters -------------------------------------------------------------------------------------------------------


def test_it_is_st_simdiff_with_other_defaults() -> None:
    parameters = {
        "tau_sim": 0.6,
        "tau_diff": 0.8,
        "split": "space",
        "ends": "both",
        "far": 8,
        "event_share": 0.4,
        "varied": True,
        "representatives": "coverage",
        "prune": "fit",
    }
    assert {**StSimDiff().parameters(), **parameters} == StSimDiffPlus().parameters()
    tokens = video(make_features("scenes", (12, 3, 3), 6, 1))
    one, other = (
        method.select(tokens, parse_ratio("0.3"), None, lambda name: None)
        for method in (StSimDiff(**parameters), StSimDiffPlus())
    )
    assert_same(one, other)


def test_it_needs_no_evidence_and_does_not_run_inside_the_llm() -> None:
    assert StSimDiffPlus().needs == frozenset()
    with pytest.raises(RequestError, match=r"st-simdiff\+ with prune=fit does not work inside"):
        StSimDiffPlus().layer_pruner(video(by_hand()), parse_ratio("0.5"))
