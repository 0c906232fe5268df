"""Communities of the thresholded graph (section 4.3): connected components, Louvain or Leiden; and their splits (4.6).

Every function returns labels (N,) int64, numbered from 0 by the lowest token of each community.
"""

from __future__ import annotations

import math
import random

import numpy as np
import torch
from torch import Tensor

from ..errors import RequestError

ALGORITHMS = ("components", "louvain", "leiden")


def communities(edges: Tensor, weights: Tensor, nodes: int, algorithm: str = "components") -> Tensor:
    """The label (N,) of every node of a graph with N = `nodes` nodes, edges (2, E) and weights (E,).

    RequestError if the algorithm needs igraph and it is not installed.
    """
    if algorithm == "components":
        return components_tensor(edges, nodes) if edges.is_cuda else components_scipy(edges, nodes)
    if algorithm not in ALGORITHMS:
        raise ValueError(f"expected one of {ALGORITHMS}, got {algorithm!r}")
    return _modularity(edges, weights, nodes, algorithm)


def components_scipy(edges: Tensor, nodes: int) -> Tensor:
    """Connected components with scipy, on the CPU."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    u, v = edges.numpy()
    graph = coo_array((np.ones(len(u), dtype=np.int8), (u, v)), shape=(nodes, nodes))
    _, label = connected_components(graph, directed=False)
    return _renumbered(torch.from_numpy(label.astype(np.int64)))


def components_tensor(edges: Tensor, nodes: int) -> Tensor:
    """Connected components with tensor operations, on any device; the same labels as `components_scipy`.

    Every round attaches, for each edge, the higher of its two roots to the lower one and then shortens all paths, until
    nothing changes (Shiloach and Vishkin, 1982). A minimum does not depend on the order of operations, so neither does
    the result.
    """
    root = torch.arange(nodes, device=edges.device)
    u, v = edges
    while True:
        low, high = torch.minimum(root[u], root[v]), torch.maximum(root[u], root[v])
        hooked = root.scatter_reduce(0, high, low, "amin")
        while not torch.equal(shorter := hooked[hooked], hooked):
            hooked = shorter
        if torch.equal(hooked, root):
            return _renumbered(root)
        root = hooked


def _modularity(edges: Tensor, weights: Tensor, nodes: int, algorithm: str) -> Tensor:
    """Louvain (Blondel et al., 2008) or Leiden (Traag et al., 2019) on modularity, as implemented by igraph; seeded."""
    try:
        import igraph
    except ImportError as error:
        raise RequestError(
            f"communities={algorithm} needs the package igraph.", "pip install 'stsimdiff[communities]'"
        ) from error
    graph = igraph.Graph(n=nodes, edges=edges.T.cpu().numpy())
    weight = weights.cpu().double().numpy()
    igraph.set_random_number_generator(random.Random(0))
    try:
        if algorithm == "louvain":
            parts = graph.community_multilevel(weights=weight)
        else:
            parts = graph.community_leiden("modularity", weights=weight, n_iterations=-1)
    finally:
        igraph.set_random_number_generator(random)
    return _renumbered(torch.tensor(parts.membership, dtype=torch.int64, device=edges.device))


def _renumbered(label: Tensor) -> Tensor:
    """The same labels (N,), numbered in order of the lowest node of each community."""
    values, inverse = torch.unique(label, return_inverse=True)
    first = torch.full((len(values),), len(label), dtype=torch.int64, device=label.device)
    first = first.scatter_reduce(0, inverse, torch.arange(len(label), device=label.device), "amin")
    number = torch.empty_like(first)
    number[torch.argsort(first)] = torch.arange(len(values), device=label.device)
    return number[inverse]


def split_large(label: Tensor, limit: int | None, place: Tensor | None = None) -> Tensor:
    """Split communities of more than `limit` tokens (section 4.6); None leaves them whole.

    The paper does not say how. Here a community's tokens, in order, are cut into ceil(|c| / limit) consecutive runs
    whose lengths differ by at most one. The order is that of `place` (N,), a permutation. Without it, the order is
    time, then row, then column, so that each piece is a stretch of time and a background that lasts is represented
    throughout the video.
    """
    if limit is None:
        return label
    size = torch.bincount(label)  # (C,)
    order = torch.arange(len(label), device=label.device) if place is None else torch.argsort(place)
    order = order[torch.sort(label[order], stable=True).indices]  # by community, then by place
    start = torch.cumsum(size, 0) - size
    rank = torch.empty_like(label)
    rank[order] = torch.arange(len(label), device=label.device) - start[label[order]]
    pieces = (size + limit - 1) // limit
    piece = rank * pieces[label] // size[label]  # 0 .. pieces - 1, lengths differ by at most one
    return _renumbered(label * (int(pieces.max()) if len(pieces) else 1) + piece)


def first_pieces(whole: Tensor, label: Tensor) -> Tensor:
    """(C,) int64: for each community of `label` (N,), the lowest number of those that were cut from the same one.

    `whole` (N,) are the labels before the cut; a community that was not cut has its own number.
    """
    count = int(label.max()) + 1
    first = torch.full_like(whole, count).scatter_reduce(0, whole, label, "amin")  # of each whole one
    return first[torch.zeros_like(whole[:count]).scatter(0, label, whole)]


def cell_by_cell(shape: tuple[int, int, int], device: torch.device) -> Tensor:
    """The place (N,) of every token of a grid (T, H, W) when they are ordered by row, then column, then time."""
    slots, rows, columns = shape
    return torch.arange(slots * rows * columns, device=device).view(rows * columns, slots).T.flatten()


def sqrt_limit(nodes: int) -> int:
    """The largest whole number <= sqrt(N), at least 1, in exact arithmetic: the limit of section 4.6."""
    return max(1, math.isqrt(nodes))


def most_coherent(coherence: Tensor, planned: Tensor, actual: Tensor, most: int) -> Tensor:
    """(C,) bool: the communities that lose tokens in the authors' code.

    They come in order of `coherence` (C,), their mean cosine, until the next one's `planned` loss (C,) would exceed
    `most` together with the `actual` losses (C,), without events, of those before it. That one and all after it stay
    whole.
    """
    order = torch.sort(coherence, descending=True, stable=True).indices
    before = torch.cumsum(actual[order], 0) - actual[order]
    fits = torch.cumprod((before + planned[order] <= most).long(), 0).bool()
    losing = torch.zeros_like(fits)
    losing[order] = fits
    return losing
