"""ST-SimDiff written out slowly from section 4 of the paper: plain loops in float64 over every pair of tokens.

It shares nothing with the library except the rules that the paper leaves open and `numerics.RESOLUTION` settles:

- two numbers closer than RESOLUTION are equal, so `w > tau` is read as `w - tau > RESOLUTION`;
- centralities are ranked as whole multiples of RESOLUTION, ties go to the token of lower index;
- a token that is alone in its community has centrality 1; a zero vector has cosine 0 with everything;
- communities are numbered by their lowest token, and one that is too large is cut into runs of consecutive members.

The library keeps cosines of edges in float32 and centralities in float64. Where a decision depends on rounding, the
reference raises UndecidedError.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from itertools import pairwise

import networkx
import torch

from stsimdiff_cli.records import Layout, ModelRef, Source, TokenGrid, VideoTokens

RESOLUTION = 1e-6
ROUNDING = 3e-7  # more than a float32 cosine of the small vectors in the tests is ever off
ROUNDING_64 = 1e-12  # the same for a centrality, in float64

Vector = Sequence[float]


class UndecidedError(Exception):
    """Rounding could decide this comparison either way."""


@dataclass(frozen=True)
class Edge:
    """An edge of G between two tokens, earlier < later."""

    earlier: int
    later: int
    in_time: bool
    weight: float


@dataclass(frozen=True)
class Expected:
    """Every set that the paper names, on the way to the kept tokens."""

    edges: list[Edge]
    strong: list[Edge]
    communities: list[list[int]]
    centrality: list[float]
    representatives: list[int]
    events: list[int]
    candidates: list[int]
    kept: list[int]
    kinds: list[int]
    labels: list[int]


def ceil_of(ratio: str, count: int) -> int:
    """ceil(r count) in decimal arithmetic."""
    return int((Decimal(ratio) * count).to_integral_value(rounding=ROUND_CEILING))


def exceeds(value: float, limit: float) -> bool:
    """`value` > `limit`, by more than RESOLUTION."""
    margin = value - limit - RESOLUTION
    if abs(margin) < ROUNDING:
        raise UndecidedError
    return margin > 0


def cosine(x: Vector, y: Vector) -> float:
    """Eq. 3."""
    dot = math.fsum(a * b for a, b in zip(x, y, strict=True))
    norms = math.hypot(*x) * math.hypot(*y)
    return dot / norms if norms else 0.0


def all_edges(x: Sequence[Vector], shape: tuple[int, int, int]) -> list[Edge]:
    """Eq. 1 and 2: look at every pair of tokens."""
    _, rows, columns = shape
    place = [(k // (rows * columns), k // columns % rows, k % columns) for k in range(len(x))]
    edges = []
    for i in range(len(x)):
        for j in range(i + 1, len(x)):
            (t, h, w), (t2, h2, w2) = place[i], place[j]
            in_space = t == t2 and abs(h - h2) + abs(w - w2) == 1
            in_time = h == h2 and w == w2 and abs(t - t2) == 1
            if in_space or in_time:
                edges.append(Edge(i, j, in_time, cosine(x[i], x[j])))
    return edges


def components(strong: Sequence[Edge], count: int) -> list[list[int]]:
    """Communities of G' as connected components, ordered by their lowest token."""
    graph = networkx.Graph()
    graph.add_nodes_from(range(count))
    graph.add_edges_from((edge.earlier, edge.later) for edge in strong)
    return sorted(sorted(part) for part in networkx.connected_components(graph))


def split(communities: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    """Section 4.6: cut communities of more than sqrt(N) tokens into as few equal runs as possible."""
    limit = max(size for size in range(1, count + 1) if size * size <= count)
    pieces = []
    for community in communities:
        size = len(community)
        runs = math.ceil(size / limit)
        cuts = [math.ceil(k * size / runs) for k in range(runs + 1)]
        pieces += [list(community[start:end]) for start, end in pairwise(cuts)]
    return sorted(pieces)


def centralities(x: Sequence[Vector], communities: Sequence[Sequence[int]]) -> list[float]:
    """Eq. 4: the mean cosine of a token to all others of its community."""
    score = [1.0] * len(x)
    for community in communities:
        for a in community:
            others = [cosine(x[a], x[b]) for b in community if b != a]
            if others:
                score[a] = math.fsum(others) / len(others)
    return score


def top(members: Sequence[int], score: Mapping[int, float], count: int) -> list[int]:
    """The `count` members with the highest scores at RESOLUTION, ties to the lower index, in order of index."""
    order = sorted(members, key=lambda a: (-round(score[a] / RESOLUTION), a))
    for a in order[:count]:
        for b in order[count:]:
            near = abs(score[a] - score[b]) < 2 * RESOLUTION
            if near and (_between_multiples(score[a]) or _between_multiples(score[b])):
                raise UndecidedError
    return sorted(order[:count])


def _between_multiples(score: float) -> bool:
    """Rounding may move the score to another multiple of RESOLUTION."""
    part = score / RESOLUTION % 1
    return abs(part - 0.5) < ROUNDING_64 / RESOLUTION


def percentile_cosine(edges: Sequence[Edge], percent: float) -> float:
    """Section 4.4: the cosine whose difference 1 - w is at a percentile of those of all temporal edges (linear)."""
    differences = sorted(1 - edge.weight for edge in edges if edge.in_time)
    if not differences:
        return -math.inf
    rank = percent / 100 * (len(differences) - 1)
    low, high = differences[math.floor(rank)], differences[math.ceil(rank)]
    return 1 - (low + (high - low) * (rank - math.floor(rank)))


def event_tokens(edges: Sequence[Edge], tau_diff: float | str) -> list[int]:
    """Eq. 6: the later tokens of temporal edges that are less similar than tau_diff."""
    limit = percentile_cosine(edges, float(tau_diff[1:])) if isinstance(tau_diff, str) else tau_diff
    return sorted(edge.later for edge in edges if edge.in_time and exceeds(limit, edge.weight))


def st_simdiff(
    features: torch.Tensor,
    ratio: str,
    *,
    tau_sim: float = 0.8,
    tau_diff: float | str = 0.2,
    spatial: bool = True,
    temporal: bool = True,
    events: bool = True,
    max_community: str = "sqrt",
    importance: Sequence[float] | None = None,
    partition: Sequence[Sequence[int]] | None = None,
) -> Expected:
    """Sections 4.2 to 4.5 on `features` (T, H, W, D), a budget of ceil(r N) and one `importance` per token.

    Without `importance`, centrality takes its place. `partition` replaces the connected components.
    """
    x = features.double().flatten(0, 2).tolist()
    edges = all_edges(x, tuple(features.shape[:3]))
    strong = [edge for edge in edges if (temporal if edge.in_time else spatial) and exceeds(edge.weight, tau_sim)]
    communities = components(strong, len(x)) if partition is None else sorted(map(list, partition))
    if max_community == "sqrt":
        communities = split(communities, len(x))
    score = centralities(x, communities)
    by_token = dict(enumerate(score))
    representatives = sorted(
        token
        for community in communities
        for token in top(community, by_token, ceil_of(ratio, len(community)))  # Eq. 5
    )
    turning = event_tokens(edges, tau_diff) if events else []
    candidates = sorted({*representatives, *turning})
    budget = ceil_of(ratio, len(x))
    if len(candidates) <= budget:
        kept = candidates
    elif importance is None:
        kept = top(candidates, by_token, budget)
    else:
        kept = sorted(sorted(candidates, key=lambda a: (-importance[a], a))[:budget])
    label = {token: number for number, community in enumerate(communities) for token in community}
    return Expected(
        edges=edges,
        strong=strong,
        communities=communities,
        centrality=score,
        representatives=representatives,
        events=turning,
        candidates=candidates,
        kept=kept,
        kinds=[(a in representatives) + 2 * (a in turning) for a in kept],
        labels=[label[a] for a in kept],
    )


def video(features: torch.Tensor, **evidence: torch.Tensor) -> VideoTokens:
    """Features (T, H, W, D) as the record that a method receives."""
    slots, rows, columns, width = features.shape
    grid = TokenGrid(
        shape=(slots, rows, columns),
        width=width,
        seconds=tuple(map(float, range(slots))),
        layout=Layout(),
        model=ModelRef(id="none", family="none", revision=None, fingerprint="0"),
        source=Source("none", 1, "00", float(slots), 1.0, slots, 1, 1, "none"),
    )
    return VideoTokens.of(grid, {"features": features, **evidence})
