"""Edges over several slots, worked out by hand; the edges of the paper are in tests/methods/test_st_simdiff.py."""

from __future__ import annotations

import math

import pytest
import torch

from stsimdiff_cli.graph.edges import Edges, edge_weights, event_mask, stride_of, weakest_edges
from stsimdiff_cli.token_features import DenseFeatures

NONE = 2.0  # the weight of a token without an edge


def one_cell(*degrees: float) -> DenseFeatures:
    """A video of one cell: a unit vector at an angle in each slot, so that a cosine is that of a difference."""
    angle = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return DenseFeatures(torch.stack([angle.cos(), angle.sin()], -1).view(-1, 1, 1, 2))


def far_alone(edges: Edges, ends: str = "both") -> list[float]:
    """The weakest far edge of every token."""
    far = torch.full_like(edges.later, NONE)
    alone = Edges(edges.right, edges.down, far, edges.norm, edges.far, edges.span)
    return weakest_edges(alone, ends).flatten().tolist()


@pytest.mark.parametrize(
    ("span", "slots", "begins"),
    [
        (8, 17, [0, 4, 8]),
        (8, 16, [0, 4]),  # the edge from slot 8 would end in slot 16
        (8, 9, [0]),
        (8, 8, []),
        (8, 1, []),
        (5, 10, [0, 2, 4]),
        (3, 5, [0, 1]),
        (2, 4, [0, 1]),
        (1, 3, [0, 1]),
        (0, 3, []),
    ],
)
@pytest.mark.parametrize("chunk", [1, 3, None])
def test_far_edges_begin_in_every_half_of_their_length(
    span: int, slots: int, begins: list[int], chunk: int | None
) -> None:
    edges = edge_weights(one_cell(*(t * t for t in range(slots))), chunk, far=span)
    expected = [math.cos(math.radians((t + span) ** 2 - t * t)) for t in begins]
    assert edges.far.flatten().tolist() == pytest.approx(expected, abs=1e-6)
    assert begins == [n * stride_of(span) for n in range(len(begins))]


def test_a_slow_change_breaks_an_edge_over_eight_slots_and_none_between_two() -> None:
    # Eleven degrees a slot: cosines of 0.98 between slots, of cos(88 degrees) = 0.035 over eight.
    edges = edge_weights(one_cell(*(11 * t for t in range(9))), far=8)
    assert event_mask(weakest_edges(edges, "both"), 0.8).flatten().nonzero().flatten().tolist() == [0, 8]
    assert event_mask(weakest_edges(edges, "later"), 0.8).flatten().nonzero().flatten().tolist() == [8]
    assert not event_mask(weakest_edges(edge_weights(one_cell(*(11 * t for t in range(9)))), "both"), 0.8).any()


def test_of_overlapping_far_edges_only_the_weakest_counts() -> None:
    # Far edges over four slots begin in 0, 2, 4, 6; neighbours overlap. They span 10, 60, 50 and 20 degrees: 2-6 beats
    # 0-4 and 4-8, and 6-10 is beaten by 4-8.
    edges = edge_weights(one_cell(0, 0, 0, 0, 10, 10, 60, 60, 60, 60, 80), far=4)
    assert edges.far.flatten().tolist() == pytest.approx([math.cos(math.radians(d)) for d in (10, 60, 50, 20)])
    assert far_alone(edges) == pytest.approx([NONE, NONE, 0.5, NONE, NONE, NONE, 0.5, NONE, NONE, NONE, NONE])
    assert far_alone(edges, "later") == pytest.approx([NONE] * 6 + [0.5] + [NONE] * 4)


def test_of_equal_far_edges_that_overlap_the_earliest_counts() -> None:
    # One sharp change between slots 3 and 4 lies under the edges 0-4 and 2-6 alike; 4-8 shows nothing.
    edges = edge_weights(one_cell(0, 0, 0, 0, 60, 60, 60, 60, 60), far=4)
    assert edges.far.flatten().tolist() == pytest.approx([0.5, 0.5, 1])
    assert far_alone(edges)[:7] == pytest.approx([0.5, NONE, NONE, NONE, 0.5, NONE, NONE])


def test_far_edges_that_only_touch_all_count() -> None:
    # Of edges over four slots, 0-4 and 4-8 share slot 4 alone; 2-6 is stronger than both. Slot 4 has the weaker one.
    edges = edge_weights(one_cell(0, 0, 0, 0, 60, 60, 10, 10, 10), far=4)
    degrees = (60, 10, 50)
    assert edges.far.flatten().tolist() == pytest.approx([math.cos(math.radians(d)) for d in degrees])
    weights = far_alone(edges)
    assert [weights[t] for t in (0, 4, 8)] == pytest.approx([0.5, 0.5, math.cos(math.radians(50))])
    assert [weights[t] for t in (2, 6)] == [NONE, NONE]


def test_the_weaker_of_near_and_far_edges_decides() -> None:
    # Between slots 1 and 2, 50 degrees; over two slots 0-2, 60 degrees.
    weakest = weakest_edges(edge_weights(one_cell(0, 10, 60), far=2), "both").flatten().tolist()
    assert weakest == pytest.approx([0.5, math.cos(math.radians(50)), 0.5])


def test_a_zero_vector_breaks_far_edges() -> None:
    features = DenseFeatures(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]).view(3, 1, 1, 2))
    assert edge_weights(features, far=2).far.flatten().tolist() == [0]
