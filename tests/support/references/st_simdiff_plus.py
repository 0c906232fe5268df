"""`st-simdiff+` written out slowly from its docstrings: plain loops in float64 over tokens and pairs of tokens.

It shares with the library what the reference of the paper's form shares, and rules of its own:

- the difference 1 - w of an edge, whose weight is a float32, is ranked in multiples of RESOLUTION;
- gains of coverage are ranked in multiples of RESOLUTION;
- what is "spread evenly" is ordered by the multiples of the golden ratio in 32 bits (Knuth's hash).

Where a decision depends on rounding, the reference raises UndecidedError.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
import torch

from .st_simdiff import (
    RESOLUTION,
    ROUNDING_64,
    Edge,
    Expected,
    UndecidedError,
    Vector,
    all_edges,
    ceil_of,
    components,
    cosine,
    exceeds,
    percentile_cosine,
)

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class FarEdge:
    """A temporal edge over several slots, in one cell."""

    begin: int  # its first slot
    earlier: int
    later: int
    weight: float


def sharpness_of(weight: float) -> int:
    """1 - w as a multiple of RESOLUTION, where w is the cosine of an edge in float32."""
    near = {round((1 - float(np.float32(weight + error))) / RESOLUTION) for error in (-1e-14, 1e-14)}
    if len(near) > 1:
        raise UndecidedError
    return near.pop()


def golden(number: int) -> int:
    """The place of a number in an order that spreads any first few of them evenly."""
    return number * 2654435769 % 2**32


# --- Events -----------------------------------------------------------------------------------------------------------


def far_edges(x: Sequence[Vector], shape: Shape, far: int) -> list[FarEdge]:
    """Edges over `far` slots from every (far // 2)-th slot; of those that overlap in a cell only the weakest count."""
    slots, rows, columns = shape
    cells = rows * columns
    counting = []
    for cell in range(cells):
        edges = [
            FarEdge(t, t * cells + cell, (t + far) * cells + cell, 0.0)
            for t in range(slots)
            if far and t % max(1, far // 2) == 0 and t + far < slots
        ]
        weight = {edge.begin: cosine(x[edge.earlier], x[edge.later]) for edge in edges}
        for edge in edges:
            beaten = False
            for other in edges:
                shared = set(range(edge.begin, edge.begin + far)) & set(range(other.begin, other.begin + far))
                if other == edge or not shared:
                    continue
                weaker = exceeds(weight[edge.begin], weight[other.begin])
                equal = not weaker and not exceeds(weight[other.begin], weight[edge.begin])
                beaten = beaten or weaker or (equal and other.begin < edge.begin)
            if not beaten:
                counting.append(FarEdge(edge.begin, edge.earlier, edge.later, weight[edge.begin]))
    return counting


def weakest_edge_of_each(edges: Sequence[Edge], distant: Sequence[FarEdge], ends: str) -> dict[int, float]:
    """For every token that could be an event, the weight of its weakest edge."""
    weakest: dict[int, float] = {}
    between = [(edge.earlier, edge.later, edge.weight) for edge in edges if edge.in_time]
    for earlier, later, weight in [*between, *((edge.earlier, edge.later, edge.weight) for edge in distant)]:
        for token in (earlier, later) if ends == "both" else (later,):
            weakest[token] = min(weight, weakest.get(token, weight))
    return weakest


def sharpest_events(
    weakest: dict[int, float], limit: float, community_of: dict[int, int], most: int, varied: bool
) -> list[int]:
    """At most `most` tokens whose edge is weaker than `limit`; the n-th of a community has 1/n of its sharpness."""
    sharpness = {token: sharpness_of(weight) for token, weight in weakest.items() if exceeds(limit, weight)}
    order = sorted(sharpness, key=lambda token: (-sharpness[token], token))
    score = {}
    for place, token in enumerate(order):
        before = sum(community_of[other] == community_of[token] for other in order[:place])
        score[token] = Fraction(sharpness[token], before + 1 if varied else 1)
    return sorted(sorted(score, key=lambda token: (-score[token], token))[:most])


# --- Representatives --------------------------------------------------------------------------------------------------


def pieces_of(community: Sequence[int], limit: int, place: Callable[[int], tuple[int, ...]]) -> list[list[int]]:
    """As few runs of equal length as possible, none longer than `limit`, of the tokens in the order of their places."""
    size, order = len(community), sorted(community, key=place)
    runs = math.ceil(size / limit)
    cuts = [math.ceil(Fraction(k * size, runs)) for k in range(runs + 1)]
    return [sorted(order[start:end]) for start, end in pairwise(cuts)]


def covering(x: Sequence[Vector], members: Sequence[int], known: set[int], quota: int) -> dict[int, int]:
    """Places of the representatives of one piece: each raises most how well its tokens are covered, in sum."""
    alike = {(a, b): max(0.0, cosine(x[a], x[b])) for a in members for b in members}
    chosen = [token for token in members if token in known]
    places = {}
    while len(chosen) < min(quota, len(members)):
        gains = {}
        for new in members:
            if new not in chosen:
                covered = [max([0.0, *(alike[a, b] for b in chosen)]) for a in members]
                gains[new] = math.fsum(max(alike[a, new] - c, 0.0) for a, c in zip(members, covered, strict=True))
        best = min(gains, key=lambda token: (-round(gains[token] / RESOLUTION), token))
        for gain in gains.values():
            if abs(gain - gains[best]) < 2 * RESOLUTION and (unsure(gain) or unsure(gains[best])):
                raise UndecidedError
        places[best] = len(chosen)
        chosen.append(best)
    return places


def unsure(gain: float) -> bool:
    """Rounding may move the gain to another multiple of RESOLUTION."""
    return abs(gain / RESOLUTION % 1 - 0.5) < 10 * ROUNDING_64 / RESOLUTION


# --- Everything -------------------------------------------------------------------------------------------------------


def st_simdiff_plus(
    features: torch.Tensor,
    ratio: str,
    *,
    tau_sim: float = 0.6,
    tau_diff: float | str = 0.8,
    spatial: bool = True,
    temporal: bool = True,
    events: bool = True,
    max_community: str = "sqrt",
    split: str = "space",
    ends: str = "both",
    far: int = 8,
    event_share: float = 0.4,
    varied: bool = True,
) -> Expected:
    """The kept tokens of `features` (T, H, W, D), and everything on the way to them."""
    x = features.double().flatten(0, 2).tolist()
    shape = tuple(features.shape[:3])
    count, cells = len(x), shape[1] * shape[2]
    budget = ceil_of(ratio, count)
    edges = all_edges(x, shape)
    strong = [edge for edge in edges if (temporal if edge.in_time else spatial) and exceeds(edge.weight, tau_sim)]
    wholes = components(strong, count)
    limit = max(size for size in range(1, count + 1) if size * size <= count) if max_community == "sqrt" else count
    by_cell = (lambda token: (token % cells, token)) if split == "space" else (lambda token: (token,))
    pieces = sorted(piece for whole in wholes for piece in pieces_of(whole, limit, by_cell))
    label = {token: number for number, piece in enumerate(pieces) for token in piece}
    whole_of = {token: number for number, whole in enumerate(wholes) for token in whole}

    turning: list[int] = []
    if events:
        threshold = percentile_cosine(edges, float(tau_diff[1:])) if isinstance(tau_diff, str) else tau_diff
        weakest = weakest_edge_of_each(edges, far_edges(x, shape, far), ends)
        most = math.floor(Fraction(str(event_share)) * budget)
        turning = sharpest_events(weakest, threshold, label, most, varied)

    place_of: dict[int, int] = {}
    for piece in pieces:
        place_of |= covering(x, piece, set(turning), ceil_of(ratio, len(piece)))

    turn: dict[int, tuple[int, int]] = {}  # of every piece: its turn, and how many pieces its community has
    for number in range(len(wholes)):
        own = sorted({label[token] for token in wholes[number]}, key=golden)
        turn |= {piece: (place, len(own)) for place, piece in enumerate(own)}

    def order(token: int) -> tuple[Fraction, int, int]:
        place, many = turn[label[token]]
        rate = Fraction(place_of[token] * many + place, many * len(pieces[label[token]]))
        return rate, -len(wholes[whole_of[token]]), golden(token)

    kept = sorted([*turning, *sorted(place_of, key=order)[: budget - len(turning)]])
    return Expected(
        edges=edges,
        strong=strong,
        communities=pieces,
        centrality=[],
        representatives=sorted(place_of),
        events=turning,
        candidates=sorted({*place_of, *turning}),
        kept=kept,
        kinds=[(a in place_of) + 2 * (a in turning) for a in kept],
        labels=[label[a] for a in kept],
    )
