"""Clusters besides communities: segments of a video, and density peaks of a set of tokens (flashvid and fastvid)."""

from __future__ import annotations

import torch
from torch import Tensor

from .numerics import at_resolution, stable_topk, unit_slot


def segments(features: Tensor, threshold: float, least: int) -> list[range]:
    """The slots of each segment of `features` (T, H, W, D).

    A cut is where the means of two consecutive slots have a cosine below `threshold`. If that makes fewer than `least`
    segments, the least similar of the other places are cut too (ties: the earlier one).
    """
    mean = torch.stack([slot.double().mean((0, 1)) for slot in features])  # (T, D)
    for t in (~torch.isfinite(mean).all(-1)).nonzero().flatten().tolist():
        unit_slot(features, t)  # names the token that is not finite
    unit = unit_slot(mean[None, None], 0, torch.float64)[0]  # (T, D)
    alike = at_resolution((unit[1:] * unit[:-1]).sum(-1))  # (T - 1,)
    below = int((alike < at_resolution(torch.tensor(threshold))).sum())
    cuts = (stable_topk(-alike, max(below, least - 1)).sort().values + 1).tolist()
    return [range(a, b) for a, b in zip([0, *cuts], [*cuts, len(features)], strict=True)]


def mean_square(features: Tensor) -> float:
    """The mean of the squares of all numbers of `features` (T, H, W, D); 1 if they are all 0."""
    total = sum(float(slot.double().square().sum()) for slot in features)
    return total / features.numel() or 1.0


def squared_distances(x: Tensor, y: Tensor, unit: float) -> Tensor:
    """Squared Euclidean distances (n, m) of the rows of `x` (n, D) and `y` (m, D), per channel and in units of `unit`.

    Float64. Two tokens of mean square `unit` that have nothing in common are 2 apart.
    """
    x, y = x.double(), y.double()
    squares = x.square().sum(-1)[:, None] + y.square().sum(-1) - 2 * x @ y.T
    return squares.clamp_min(0) / (unit * max(1, x.shape[-1]))


def density_peaks(squares: Tensor, neighbors: int, count: int) -> Tensor:
    """The `count` density peaks (count,) of n tokens, highest first, from their `squares` (n, n) of distances.

    The score of DPC-kNN (Du et al., 2016): density, exp(-mean square of the distances to the `neighbors` nearest, the
    token itself included), times the distance to the nearest denser token, or the largest of all distances if there is
    none. Logarithms are compared, at RESOLUTION, so that low densities do not become 0. Of equal densities, that of the
    lower index is the higher; so it is with scores.
    """
    size = len(squares)
    density = -squares.sort(dim=-1).values[:, : max(1, neighbors)].mean(-1)  # (n,) its logarithm
    rank = torch.empty(size, dtype=torch.int64, device=squares.device)
    rank[stable_topk(at_resolution(density), size)] = torch.arange(size, device=squares.device)
    denser = rank[None, :] < rank[:, None]  # (n, n): the column is denser than the row
    nearest = squares.masked_fill(~denser, float(squares.max())).amin(-1)  # (n,)
    return stable_topk(at_resolution(nearest.log() / 2 + density), count)
