"""The centrality of tokens in their communities (Eq. 4), from features that are whole or come chunk by chunk."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import kernels
from .graph import Features, chunks


def centrality(features: Features, community: Tensor, norm: Tensor, slots: int | None = None) -> Tensor:
    """Mean cosine of each token to the rest of its community (Eq. 4), float64 (N,).

    `community` (N,) are labels from 0, `norm` (T, H, W) the lengths of `Edges`. Through the community's sum of unit
    vectors: x . (sum - x) / (|c| - 1). A token that is alone in its community represents it perfectly: 1.
    In float64, because ties are the rule, not the exception: the two tokens of a pair always have the same centrality,
    and the rounding of float32 would choose between them.

    Features come in chunks of `slots` slots. Communities that lie within one are done while it is there; those that
    span several keep a sum each, (S, D) float64, and are read a second time.
    """
    slot_size, elements = features.shape[1] * features.shape[2], math.prod(features.shape)
    inverse = kernels.inverse_of(norm.flatten())  # (N,)
    size = torch.bincount(community)  # (C,)
    order = torch.sort(community, stable=True).indices  # by community, then by place
    last = torch.cumsum(size, 0) - 1
    first, last = order[last - size + 1], order[last]  # (C,) their first and last tokens
    chunk_size = slot_size * (slots or max(1, features.shape[0]))
    spans = first // chunk_size != last // chunk_size  # (C,)
    row = torch.cumsum(spans, 0) - 1
    sums = torch.zeros((int(spans.sum()), features.shape[3]), dtype=torch.float64, device=community.device)
    within, across = (size > 1) & ~spans, spans

    score = inverse.new_zeros(len(community))  # x . sum
    for begin, chunk in chunks(features, slots):
        low, rows, kernel = begin * slot_size, chunk.flatten(0, 2), kernels.choose(chunk, elements)
        unit, inside = inverse[low : low + len(rows)], order[(order >= low) & (order < low + len(rows))]
        group, member, start = _grouped(inside, community, within)
        score[member] = kernel.affinities(rows, unit, member - low, start)
        group, member, start = _grouped(inside, community, across)
        sums[row[group]] += kernel.sums(rows, unit, member - low, start)
    for begin, chunk in chunks(features, slots) if len(sums) else ():
        low, rows, kernel = begin * slot_size, chunk.flatten(0, 2), kernels.choose(chunk, elements)
        unit, inside = inverse[low : low + len(rows)], order[(order >= low) & (order < low + len(rows))]
        group, member, start = _grouped(inside, community, across)
        score[member] = kernel.dots(rows, unit, member - low, start, sums[row[group]])
    mean = (score - (inverse > 0).double()) / (size[community] - 1)  # x . x is 1, but for a zero vector
    return torch.where(size[community] > 1, mean, 1)


def _grouped(inside: Tensor, community: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of tokens in order of community, those whose community is `wanted` (C,).

    Their communities (G,), the tokens (M,), and where each community starts (G+1,).
    """
    member = inside[wanted[community[inside]]]
    group, size = torch.unique_consecutive(community[member], return_counts=True)
    return group, member, torch.cat([size.new_zeros(1), size.cumsum(0)])
