"""ST-SimDiff equals the paper: against the plain reference, and against a case worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings

from stsimdiff_cli.errors import RequestError, StsimdiffError
from stsimdiff_cli.graph import edges as graph
from stsimdiff_cli.graph.centrality import centrality
from stsimdiff_cli.graph.communities import communities, split_large, sqrt_limit
from stsimdiff_cli.graph.numerics import top_by_score
from stsimdiff_cli.methods.st_simdiff import StSimDiff
from stsimdiff_cli.ratio import parse_ratio
from stsimdiff_cli.records import VideoTokens
from stsimdiff_cli.token_features import DenseFeatures
from tests.support.cases import (
    CONTENTS,
    Case,
    assert_same_selection,
    cases,
    edge_list,
    hundreds,
    labels_of,
    make_features,
)
from tests.support.fake_llm import FakeLlm
from tests.support.references import st_simdiff as reference
from tests.support.references.st_simdiff import ceil_of, video

# --- Step by step -----------------------------------------------------------------------------------------------------


@hundreds
def test_edges_are_the_cosines_of_all_neighbours_and_of_no_others(case: Case) -> None:
    got = edge_list(graph.edge_weights(DenseFeatures(case.features)))
    expected = {(edge.earlier, edge.later): edge.weight for edge in case.expected().edges}
    assert got == pytest.approx(expected, abs=reference.ROUNDING)


@hundreds
def test_communities_are_the_components_of_the_edges_above_tau_sim_cut_at_sqrt_n(case: Case) -> None:
    expected, count = case.expected(), math.prod(case.features.shape[:3])
    edges = graph.edge_weights(DenseFeatures(case.features))
    strong, weights = graph.strong_edges(
        edges, case.switches["tau_sim"], case.switches["spatial"], case.switches["temporal"]
    )
    by_ends = {(edge.earlier, edge.later): edge.weight for edge in expected.strong}
    assert dict(zip(map(tuple, strong.T.tolist()), weights.tolist(), strict=True)) == pytest.approx(
        by_ends, abs=reference.ROUNDING
    )
    label = communities(strong, weights, count)
    label = split_large(label, sqrt_limit(count) if case.switches["max_community"] == "sqrt" else None)
    assert label.tolist() == labels_of(expected.communities, count)


@hundreds
def test_centrality_is_the_mean_of_the_pairwise_cosines(case: Case) -> None:
    expected = case.expected()
    label = torch.tensor(labels_of(expected.communities, len(expected.centrality)))
    assert centrality(
        DenseFeatures(case.features), label, graph.edge_weights(DenseFeatures(case.features)).norm
    ).tolist() == pytest.approx(expected.centrality, abs=reference.ROUNDING_64)


@hundreds
def test_representatives_are_the_most_central_share_of_every_community(case: Case) -> None:
    expected = case.expected()
    label = torch.tensor(labels_of(expected.communities, len(expected.centrality)))
    quota = torch.tensor([ceil_of(case.ratio, len(part)) for part in expected.communities])
    keep = top_by_score(
        centrality(DenseFeatures(case.features), label, graph.edge_weights(DenseFeatures(case.features)).norm),
        label,
        quota,
    )
    assert keep.nonzero().flatten().tolist() == expected.representatives


@hundreds
def test_events_are_the_later_tokens_of_the_temporal_edges_below_tau_diff(case: Case) -> None:
    case.switches["events"] = True
    edges, tau = graph.edge_weights(DenseFeatures(case.features)), case.switches["tau_diff"]
    threshold = graph.percentile_threshold(edges, float(tau[1:])) if isinstance(tau, str) else tau
    assert (
        graph.event_mask(graph.weakest_edges(edges), threshold).flatten().nonzero().flatten().tolist()
        == case.expected().events
    )


# --- The whole method -------------------------------------------------------------------------------------------------


@hundreds
def test_selection_by_centrality_equals_the_reference(case: Case) -> None:
    expected = case.expected()
    got = case.selection("centrality")
    assert_same_selection(got, expected)
    if len(expected.candidates) > len(expected.kept):
        assert got.importance.tolist() == pytest.approx([expected.centrality[a] for a in expected.kept], abs=1e-7)
    else:
        assert got.importance is None


@hundreds
def test_selection_by_saliency_equals_the_reference(case: Case) -> None:
    weight = case.tie_prone_weights()
    tokens = video(case.features, saliency=weight.view(case.features.shape[:3]))
    assert_same_selection(case.selection("saliency", tokens), case.expected(importance=weight.tolist()))


@hundreds
def test_selection_by_attention_equals_the_reference_for_an_importance_and_its_reverse(case: Case) -> None:
    # The two selections together show the kind and community of nearly every candidate.
    for weight in (case.tie_prone_weights(), 1 - case.tie_prone_weights()):
        expected = case.expected(importance=weight.tolist())
        calls = []

        def attention(index: torch.Tensor, layer: int, weight: torch.Tensor = weight, calls: list = calls) -> Any:
            calls.append((index.tolist(), layer))
            return weight[index]

        case.switches["layer"] = 3
        got = case.selection("llm", attention=attention)
        del case.switches["layer"]
        assert_same_selection(got, expected)
        if len(expected.candidates) > len(expected.kept):  # attention is measured once, on the candidates, in the layer
            assert calls == [(expected.candidates, 3)]
            assert torch.equal(got.importance, weight[got.index])
        else:  # nothing to prune: the LLM is never asked
            assert calls == []
            assert got.importance is None


@pytest.mark.parametrize("max_community", ["sqrt", "none"])
@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 4, 3), (6, 1, 1), (4, 1, 3), (4, 3, 1), (2, 2, 2)])
def test_selection_equals_the_reference_on_every_thin_grid(
    content: str, shape: tuple[int, int, int], max_community: str
) -> None:
    features = make_features(content, shape, width=3, seed=5)
    for ratio in ("0.01", "0.3", "0.5", "0.99", "1"):
        case = Case(features, ratio, {"max_community": max_community}, seed=5)
        assert_same_selection(
            case.selection("centrality"), reference.st_simdiff(features, ratio, max_community=max_community)
        )


def test_a_constant_video_is_one_community_and_keeps_its_first_tokens() -> None:
    got = Case(make_features("constant", (4, 3, 3), 7, 1), "0.25", {"max_community": "none"}, 0).selection("centrality")
    assert got.counts["communities"] == 1
    assert got.index.tolist() == list(range(9))


def test_of_a_pair_the_earlier_token_represents_it() -> None:
    # Both tokens of a pair have the same centrality, their cosine, wherever rounding takes the two sums.
    chance = torch.Generator().manual_seed(0)
    for _ in range(300):
        first = torch.randn(64, generator=chance)
        features = torch.stack([first, first + 0.4 * torch.randn(64, generator=chance)]).view(2, 1, 1, 64)
        got = Case(features, "0.5", {"max_community": "none"}, 0).selection("centrality")
        assert got.counts["communities"] == 1
        assert got.index.tolist() == [0]


def test_equal_centralities_of_different_communities_prune_to_the_lower_index() -> None:
    # All cosines are 1, but float32 sums over communities of 6 and 7 tokens round differently.
    for seed in range(40):
        features = make_features("constant", (45, 1, 1), 5, seed)
        got = Case(features, "0.3", {}, 0).selection("centrality")
        assert got.counts["communities"] == 8
        expected = reference.st_simdiff(features, "0.3")
        assert len(expected.candidates) > len(expected.kept)
        assert got.index.tolist() == expected.kept == expected.candidates[: len(expected.kept)]


@pytest.mark.parametrize("algorithm", ["louvain", "leiden"])
@settings(max_examples=80, deadline=None, derandomize=True)
@given(case=cases())
def test_selection_with_other_communities_equals_the_reference_on_the_same_communities(
    algorithm: str, case: Case
) -> None:
    case.switches["tau_sim"] = abs(case.switches["tau_sim"])
    edges = graph.edge_weights(DenseFeatures(case.features))
    strong = graph.strong_edges(edges, case.switches["tau_sim"], case.switches["spatial"], case.switches["temporal"])
    label = communities(*strong, math.prod(case.features.shape[:3]), algorithm).tolist()
    partition = [[token for token, number in enumerate(label) if number == k] for k in range(max(label) + 1)]
    expected = case.expected(partition=partition)
    case.switches["communities"] = algorithm
    assert_same_selection(case.selection("centrality"), expected)


def test_resolution_of_the_reference_is_that_of_the_library() -> None:
    assert reference.RESOLUTION == graph.RESOLUTION


# --- Worked out by hand -----------------------------------------------------------------------------------------------
#
# One cell over seven slots. The edges are the temporal ones from token to token:
#
#   token    0          1          2          3          4          5          6
#   vector   1 2 2 4    1 0 0 0    4 3 0 0    3 4 0 0    0 0 1 0    0 9 40 0   0 720 1519 0
#   length   5          1          5          5          1          41         1681
#   cosine          0.2        0.8        0.96       0        40/41      40/41
#
# G' keeps what is above 0.8, so 1-2 is not an edge: communities {0} {1} {2 3} {4 5 6}.
# Cosine of 4 and 6: 1519/1681 = 0.90363 (twice the angle). Centralities, Eq. 4:
#   1, 1, 0.96, 0.96, (40/41 + 1519/1681)/2 = 0.93962, 40/41 = 0.97561, 0.93962
# r = 0.3: quotas ceil(0.3) = 1, 1, ceil(0.6) = 1, ceil(0.9) = 1. T_rep = {0, 1, 2, 5}; 2 wins its tie with 3.
# T_event: below 0.2 is 3-4 alone (0-1 is not below), its later token: {4}. Candidates {0, 1, 2, 4, 5}.
# Budget ceil(0.3 x 7 = 2.1) = 3, so two candidates must go.

BY_HAND = [
    (1, 2, 2, 4),
    (1, 0, 0, 0),
    (4, 3, 0, 0),
    (3, 4, 0, 0),
    (0, 0, 1, 0),
    (0, 9, 40, 0),
    (0, 720, 1519, 0),
]
REPRESENTATIVE, EVENT, BOTH = 1, 2, 3


def by_hand(**parameters: Any) -> StSimDiff:
    return StSimDiff(**{"max_community": "none", "importance": "centrality", **parameters})


def hand_video() -> VideoTokens:
    return video(torch.tensor(BY_HAND, dtype=torch.float32).view(7, 1, 1, 4))


def test_hand_case_pruned_by_centrality_keeps_0_1_5() -> None:
    got = by_hand().select(hand_video(), parse_ratio("0.3"), None, lambda name: None)
    assert got.index.tolist() == [0, 1, 5]
    assert got.kind.tolist() == [REPRESENTATIVE] * 3
    assert got.community.tolist() == [0, 1, 3]
    assert got.importance.tolist() == pytest.approx([1, 1, 40 / 41])
    assert got.counts == {
        "tokens": 7,
        "kept": 3,
        "candidates": 5,
        "representatives": 4,
        "events": 1,
        "communities": 4,
        "largest_community": 3,
    }


def test_hand_case_pruned_by_attention_keeps_the_event_and_the_lower_of_equals() -> None:
    attention = torch.tensor([0.3, 0.1, 0.3, 9.0, 0.9, 0.3, 9.0])  # 3 and 6 are not candidates: 9.0 must not help
    asked = []

    def importance(index: torch.Tensor, layer: int) -> torch.Tensor:
        asked.append((index.tolist(), layer))
        return attention[index]

    got = by_hand(importance="llm", layer=2).select(
        hand_video(), parse_ratio("0.3"), FakeLlm(importance), lambda name: None
    )
    assert asked == [([0, 1, 2, 4, 5], 2)]
    assert got.index.tolist() == [0, 2, 4]  # 0.9, then two of the three with 0.3
    assert got.kind.tolist() == [REPRESENTATIVE, REPRESENTATIVE, EVENT]
    assert got.community.tolist() == [0, 2, 3]


def test_hand_case_at_a_higher_ratio_keeps_more_of_the_larger_communities() -> None:
    # r = 0.6: quotas 1, 1, ceil(1.2) = 2, ceil(1.8) = 2; T_rep = {0, 1, 2, 3, 4, 5}: 4 wins its tie with 6.
    # Budget ceil(4.2) = 5: token 4 has the lowest centrality and goes, event or not.
    got = by_hand().select(hand_video(), parse_ratio("0.6"), None, lambda name: None)
    assert got.counts["candidates"] == got.counts["representatives"] == 6
    assert got.index.tolist() == [0, 1, 2, 3, 5]
    assert got.importance.tolist() == pytest.approx([1, 1, 0.96, 0.96, 40 / 41])


def test_hand_case_split_at_sqrt_n_cuts_the_community_of_three() -> None:
    # floor(sqrt(7)) = 2: {4 5 6} becomes {4 5} {6}; 4 wins its tie with 5 and is an event too.
    attention = torch.tensor([0.1, 0.2, 0.3, 9.0, 0.5, 9.0, 0.4])
    got = by_hand(importance="llm", max_community="sqrt").select(
        hand_video(), parse_ratio("0.3"), FakeLlm(lambda index, layer: attention[index]), lambda name: None
    )
    assert got.counts["candidates"] == got.counts["communities"] == 5
    assert got.index.tolist() == [2, 4, 6]
    assert got.kind.tolist() == [REPRESENTATIVE, BOTH, REPRESENTATIVE]
    assert got.community.tolist() == [2, 3, 4]


@pytest.mark.parametrize(
    ("tau_diff", "events"),
    [  # differences in order: 1/41 1/41 0.04 0.2 0.8 1; p80 is rank 4
        ("p80", [4]),
        ("p79", [1, 4]),  # rank 3.95: 0.77
        ("p100", []),
        ("p0", [1, 2, 3, 4]),
        (0.2, [4]),
        (0.8, [1, 4]),
        (0.81, [1, 2, 4]),
        (0.0, []),
    ],
)
def test_hand_case_has_these_events(tau_diff: float | str, events: list[int]) -> None:
    # At ratio 1 everything is kept, so that kind shows every event.
    got = by_hand(tau_diff=tau_diff).select(hand_video(), parse_ratio(1), None, lambda name: None)
    assert (got.kind & EVENT).nonzero().flatten().tolist() == events
    assert got.counts["events"] == len(events)


@pytest.mark.parametrize(("percent", "cosine"), [(0, 40 / 41), (60, 0.8), (79, 0.23), (80, 0.2), (90, 0.1), (100, 0)])
def test_hand_case_has_these_percentiles(percent: float, cosine: float) -> None:
    edges = graph.edge_weights(hand_video().features)
    assert graph.percentile_threshold(edges, percent) == pytest.approx(cosine, abs=1e-6)


def test_quotas_are_exact_where_binary_floats_are_not() -> None:
    # 0.07 * 100 is 7.000000000000001 in binary floats, whose ceiling is 8.
    got = by_hand().select(video(torch.ones(100, 1, 1, 2)), parse_ratio("0.07"), None, lambda name: None)
    assert got.counts["largest_community"] == 100
    assert got.counts["representatives"] == got.counts["candidates"] == 7


def test_the_reference_agrees_with_the_hand_case() -> None:
    expected = reference.st_simdiff(hand_video().features.tensor(), "0.3", max_community="none")
    assert expected.communities == [[0], [1], [2, 3], [4, 5, 6]]
    assert expected.centrality == pytest.approx([1, 1, 0.96, 0.96, 0.939619, 40 / 41, 0.939619], abs=1e-6)
    assert (expected.representatives, expected.events) == ([0, 1, 2, 5], [4])
    assert (expected.candidates, expected.kept) == ([0, 1, 2, 4, 5], [0, 1, 5])


@pytest.mark.parametrize(
    ("switches", "communities"),
    [({}, 1), ({"spatial": False}, 4), ({"temporal": False}, 3), ({"spatial": False, "temporal": False}, 12)],
)
def test_switches_leave_out_spatial_or_temporal_edges(switches: dict[str, bool], communities: int) -> None:
    # A constant video of 3 slots of 2 x 2 cells: whole, four columns of time, three frames, or twelve tokens.
    tokens = video(torch.ones(3, 2, 2, 4))
    assert (
        by_hand(**switches).select(tokens, parse_ratio("0.5"), None, lambda name: None).counts["communities"]
        == communities
    )


# --- Extreme and broken features --------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_features_that_are_not_finite_are_refused_with_their_position(bad: float, dtype: torch.dtype) -> None:
    features = torch.ones(4, 3, 5, 6, dtype=dtype)
    features[2, 1, 4, 3] = bad
    with pytest.raises(StsimdiffError, match="slot 2, row 1, column 4 holds a NaN or an infinite value") as caught:
        StSimDiff().select(video(features), parse_ratio("0.5"), None, lambda name: None)
    assert caught.value.hint


@pytest.mark.parametrize("factor", [1e30, 1e37, 1e-30, 1e-37])
@pytest.mark.parametrize("content", ["scenes", "noise", "drift", "integers"])
def test_very_large_or_small_features_give_the_same_choice(content: str, factor: float) -> None:
    for seed in range(20):
        features = make_features(content, (4, 3, 3), 6, seed)
        expected = reference.st_simdiff(features, "0.3")
        assert_same_selection(Case(features * factor, "0.3", {}, 0).selection("centrality"), expected)


def test_tokens_of_very_different_length_are_compared_by_direction_alone() -> None:
    features = make_features("scenes", (4, 3, 3), 6, 3)
    lengths = torch.logspace(-30, 30, 36).view(4, 3, 3, 1)
    assert_same_selection(
        Case(features * lengths, "0.3", {}, 0).selection("centrality"), reference.st_simdiff(features, "0.3")
    )


@pytest.mark.parametrize("seed", range(5))
def test_half_precision_features_give_the_choice_of_their_own_values(seed: int) -> None:
    features = make_features("scenes", (4, 3, 3), 6, seed).bfloat16()
    assert_same_selection(Case(features, "0.3", {}, 0).selection("centrality"), reference.st_simdiff(features, "0.3"))


# --- Parameters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parameters",
    [
        {"tau_sim": 1.01},
        {"tau_sim": math.nan},
        {"tau_diff": -1.01},
        {"tau_diff": math.nan},
        {"tau_diff": "p101"},
        {"tau_diff": "p-1"},
        {"tau_diff": "pnan"},
        {"tau_diff": "0.2"},
        {"tau_diff": ""},
        {"layer": -1},
        {"far": -1},
        {"event_share": 1.01},
        {"event_share": math.nan},
        {"communities": "louvain", "tau_sim": -0.1},
    ],
)
def test_parameters_outside_their_range_are_refused_with_a_hint(parameters: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as caught:
        StSimDiff(**parameters)
    assert caught.value.hint


@pytest.mark.parametrize(("importance", "needs"), [("llm", {"llm"}), ("saliency", {"saliency"}), ("centrality", set())])
def test_st_simdiff_needs_the_evidence_of_its_importance_alone(importance: str, needs: set[str]) -> None:
    assert StSimDiff(importance=importance).needs == needs
