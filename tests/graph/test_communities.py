"""Communities: connected components two ways, Louvain and Leiden, and the splitting of large ones."""

from __future__ import annotations

import math
import random
import sys
from itertools import chain, pairwise
from typing import Any

import networkx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stsimdiff_cli.errors import RequestError
from stsimdiff_cli.graph.communities import (
    cell_by_cell,
    communities,
    components_scipy,
    components_tensor,
    first_pieces,
    split_large,
    sqrt_limit,
)

BOTH = [components_scipy, components_tensor]


def as_edges(pairs: list[tuple[int, int]]) -> torch.Tensor:
    """(2, E) int64."""
    return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T.contiguous()


def as_graph(pairs: list[tuple[int, int]], nodes: int) -> networkx.Graph:
    graph = networkx.Graph()
    graph.add_nodes_from(range(nodes))
    graph.add_edges_from(pairs)
    return graph


def parts_of(label: torch.Tensor) -> list[list[int]]:
    """The members of community 0, 1, ..."""
    parts: list[list[int]] = [[] for _ in range(int(label.max()) + 1)]
    for node, number in enumerate(label.tolist()):
        parts[number].append(node)
    return parts


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    """Random graphs without loops, from empty to dense."""
    nodes = draw(st.integers(1, 40))
    ends = st.tuples(st.integers(0, nodes - 1), st.integers(0, nodes - 1))
    pairs = draw(
        st.lists(ends.filter(lambda pair: pair[0] != pair[1]).map(sorted).map(tuple), max_size=80, unique=True)
    )
    return nodes, pairs if nodes > 1 else []


def shuffled(count: int) -> list[int]:
    order = list(range(count))
    random.Random(0).shuffle(order)
    return order


# --- Connected components ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("components", BOTH)
@settings(max_examples=300, deadline=None, derandomize=True)
@given(graph=graphs())
def test_components_are_those_of_networkx_numbered_by_their_lowest_node(components: Any, graph: Any) -> None:
    nodes, pairs = graph
    expected = sorted(sorted(part) for part in networkx.connected_components(as_graph(pairs, nodes)))
    label = components(as_edges(pairs), nodes)
    assert label.dtype == torch.int64
    assert parts_of(label) == expected


@pytest.mark.parametrize("components", BOTH)
@pytest.mark.parametrize("order", [range(5000), range(4999, -1, -1), shuffled(5000)], ids=["up", "down", "shuffled"])
def test_a_long_path_is_one_component(components: Any, order: Any) -> None:
    order = list(order)
    label = components(as_edges(list(pairwise(order))), 5000)
    assert torch.equal(label, torch.zeros(5000, dtype=torch.int64))


def test_both_component_algorithms_agree_on_a_sparse_graph_of_many_components() -> None:
    chance = torch.Generator().manual_seed(0)
    edges = torch.randint(20_000, (2, 9_000), generator=chance)
    first, second = (components(edges, 20_000) for components in BOTH)
    assert torch.equal(first, second)
    assert int(first.max()) > 5_000


@pytest.mark.parametrize("components", BOTH)
def test_without_edges_every_node_is_its_own_component(components: Any) -> None:
    assert components(as_edges([]), 5).tolist() == [0, 1, 2, 3, 4]


def test_communities_are_components_unless_asked_otherwise() -> None:
    pairs = [(0, 3), (1, 4)]
    assert communities(as_edges(pairs), torch.ones(2), 5).tolist() == [0, 1, 2, 0, 1]


# --- Louvain and Leiden -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["louvain", "leiden"])
@settings(max_examples=100, deadline=None, derandomize=True)
@given(graph=graphs(), seed=st.integers(0, 1000))
def test_modularity_communities_lie_within_components_and_repeat(algorithm: str, graph: Any, seed: int) -> None:
    nodes, pairs = graph
    weights = 0.8 + 0.2 * torch.rand(len(pairs), generator=torch.Generator().manual_seed(seed))
    label = communities(as_edges(pairs), weights, nodes, algorithm)
    assert label.shape == (nodes,)
    whole = as_graph(pairs, nodes)
    parts = parts_of(label)
    assert all(parts)
    assert parts == sorted(parts)  # numbered by their lowest node
    for part in parts:
        assert set(part) <= networkx.node_connected_component(whole, part[0])
        if algorithm == "leiden":  # Leiden promises more than Louvain: communities are connected in themselves
            assert networkx.is_connected(whole.subgraph(part))
    random.seed(seed)  # chance elsewhere in the program has no say
    assert torch.equal(communities(as_edges(pairs), weights, nodes, algorithm), label)


@pytest.mark.parametrize("algorithm", ["louvain", "leiden"])
def test_modularity_cuts_the_bridge_between_two_cliques_that_components_keep(algorithm: str) -> None:
    pairs = [(a + k, b + k) for k in (0, 5) for a in range(5) for b in range(a + 1, 5)] + [(4, 5)]
    weights = torch.full((len(pairs),), 0.9)
    assert communities(as_edges(pairs), weights, 10, algorithm).tolist() == [0] * 5 + [1] * 5
    assert communities(as_edges(pairs), weights, 10, "components").tolist() == [0] * 10


def test_leiden_goes_on_where_louvain_stops() -> None:
    # Leiden refines what Louvain calls final: over a few dozen sparse graphs its modularity is higher in sum.
    total = dict.fromkeys(("louvain", "leiden"), 0.0)
    for seed in range(30):
        graph = networkx.gnm_random_graph(60, 110, seed=seed)
        edges, weights = as_edges(list(graph.edges)), torch.ones(110)
        for algorithm in total:
            total[algorithm] += networkx.community.modularity(
                graph, parts_of(communities(edges, weights, 60, algorithm))
            )
    assert total["leiden"] > total["louvain"] + 0.1


@pytest.mark.parametrize("algorithm", ["louvain", "leiden"])
def test_modularity_weighs_edges(algorithm: str) -> None:
    # A ring of four: the two strong edges hold their ends together, the two weak ones do not.
    pairs = [(0, 1), (1, 2), (2, 3), (0, 3)]
    assert communities(as_edges(pairs), torch.tensor([1, 0.01, 1, 0.01]), 4, algorithm).tolist() == [0, 0, 1, 1]
    assert communities(as_edges(pairs), torch.tensor([0.01, 1, 0.01, 1]), 4, algorithm).tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("algorithm", ["louvain", "leiden"])
def test_modularity_leaves_the_chance_of_the_program_alone(algorithm: str) -> None:
    random.seed(7)
    state = random.getstate()
    communities(as_edges([(0, 1), (1, 2), (2, 3)]), torch.ones(3), 4, algorithm)
    assert random.getstate() == state


@pytest.mark.parametrize("algorithm", ["louvain", "leiden"])
def test_modularity_without_edges_leaves_every_node_alone(algorithm: str) -> None:
    assert communities(as_edges([]), torch.ones(0), 4, algorithm).tolist() == [0, 1, 2, 3]


def test_modularity_without_igraph_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "igraph", None)
    with pytest.raises(RequestError, match="needs the package igraph") as caught:
        communities(as_edges([(0, 1)]), torch.ones(1), 2, "leiden")
    assert caught.value.hint == "pip install 'stsimdiff[communities]'"


def test_an_unknown_algorithm_is_refused() -> None:
    with pytest.raises(ValueError, match="got 'walktrap'"):
        communities(as_edges([(0, 1)]), torch.ones(1), 2, "walktrap")


# --- Splitting --------------------------------------------------------------------------------------------------------

labels = st.lists(st.integers(0, 4), min_size=1, max_size=60)


def numbered(values: list[int]) -> torch.Tensor:
    """The same communities numbered by their lowest node."""
    names = list(dict.fromkeys(values))
    return torch.tensor([names.index(value) for value in values])


@settings(max_examples=300, deadline=None, derandomize=True)
@given(values=labels, limit=st.integers(1, 12))
def test_split_communities_are_consecutive_runs_of_equal_size_within_the_limit(values: list[int], limit: int) -> None:
    label = numbered(values)
    pieces = parts_of(split_large(label, limit))
    assert pieces == sorted(pieces)  # numbered by their lowest node
    for members in parts_of(label):
        runs = [piece for piece in pieces if set(piece) <= set(members)]
        assert list(chain(*runs)) == members  # nothing lost, and every piece is a run of consecutive members
        sizes = [len(run) for run in runs]
        assert len(runs) == math.ceil(len(members) / limit)  # no more pieces than needed
        assert max(sizes) <= limit
        assert max(sizes) - min(sizes) <= 1


@settings(max_examples=50, deadline=None, derandomize=True)
@given(values=labels)
def test_communities_stay_whole_without_a_limit_and_within_it(values: list[int]) -> None:
    label = numbered(values)
    assert torch.equal(split_large(label, None), label)
    assert torch.equal(split_large(label, len(values)), label)


def test_splitting_leaves_its_input_as_it_was() -> None:
    label = torch.tensor([0, 0, 1, 0, 0])
    assert split_large(label, 2).tolist() == [0, 0, 1, 2, 2]
    assert label.tolist() == [0, 0, 1, 0, 0]


@settings(max_examples=50, deadline=None, derandomize=True)
@given(values=labels, limit=st.integers(1, 4))
def test_pieces_know_the_first_piece_of_what_they_were_cut_from(values: list[int], limit: int) -> None:
    whole = numbered(values)
    label = split_large(whole, limit)
    first: dict[int, int] = {}
    for one, piece in zip(whole.tolist(), label.tolist(), strict=True):
        first[one] = min(first.get(one, piece), piece)
    expected = {piece: first[one] for one, piece in zip(whole.tolist(), label.tolist(), strict=True)}
    assert first_pieces(whole, label).tolist() == [expected[piece] for piece in sorted(expected)]


def test_a_community_cut_cell_by_cell_falls_into_patches_of_space() -> None:
    shape = (2, 1, 3)  # tokens 0 1 2 in the first slot, 3 4 5 in the second
    assert cell_by_cell(shape, torch.device("cpu")).tolist() == [0, 2, 4, 1, 3, 5]
    label = torch.zeros(6, dtype=torch.int64)
    assert split_large(label, 2).tolist() == [0, 0, 1, 1, 2, 2]
    assert split_large(label, 2, cell_by_cell(shape, label.device)).tolist() == [0, 1, 2, 0, 1, 2]


def test_sqrt_limit_is_the_largest_whole_number_whose_square_is_within_n() -> None:
    for nodes in [*range(1, 2000), 10**16 - 1, 10**16, 10**16 + 1]:
        limit = sqrt_limit(nodes)
        assert limit**2 <= nodes < (limit + 1) ** 2
