"""Representatives that cover a community, against a plain loop over communities and tokens."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from stsimdiff_cli.graph import coverage
from stsimdiff_cli.graph.coverage import coverage_ranks
from stsimdiff_cli.graph.numerics import RESOLUTION
from stsimdiff_cli.token_features import DenseFeatures


def ranks_by_hand(features: Tensor, community: Tensor, quota: list[int], known: Tensor) -> list[int]:
    """The same one token at a time, in float64."""
    unit = F.normalize(features.double().flatten(0, 2), dim=-1)
    count = len(unit)
    ranks = [0 if known[i] else count for i in range(count)]
    for label, most in enumerate(quota):
        members = [i for i in range(count) if community[i] == label]
        kept = [i for i in members if known[i]]
        while len(kept) < most:

            def gain(i: int, kept: list[int] = kept, members: list[int] = members) -> float:
                covered = [max([0.0, *(float(unit[j] @ unit[k]) for k in kept)]) for j in members]
                with_it = [max(c, float(unit[j] @ unit[i])) for c, j in zip(covered, members, strict=True)]
                return round((sum(with_it) - sum(covered)) / RESOLUTION)

            best = max((i for i in members if i not in kept), key=lambda i: (gain(i), -i))
            ranks[best] = len(kept)
            kept.append(best)
    return ranks


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 3))
def test_ranks_are_those_of_a_plain_greedy_loop(seed: int, slots: int, labels: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(3, 6, generator=generator)
    shape = (slots, 2, 3)
    pick = torch.randint(0, 3, shape, generator=generator)
    features = base[pick] + 0.4 * torch.randn((*shape, 6), generator=generator)
    count = slots * 6
    community = torch.randint(0, labels, (count,), generator=generator)
    community = torch.unique(community, return_inverse=True)[1]
    size = torch.bincount(community)
    known = torch.rand(count, generator=generator) < 0.15
    quota = (size + 1) // 2
    got = coverage_ranks(DenseFeatures(features), community, features.double().norm(dim=-1), quota, known)
    assert got.tolist() == ranks_by_hand(features, community, quota.tolist(), known)


def test_an_object_chained_to_its_background_is_represented_second() -> None:
    # Twelve tokens of a background, three of an object at 70 degrees from it: all central tokens are background.
    background, thing = torch.tensor([1.0, 0.0]), torch.tensor([0.342, 0.94])
    features = torch.stack([background] * 12 + [thing] * 3).view(1, 3, 5, 2)
    one = torch.zeros(15, dtype=torch.int64)
    rank = coverage_ranks(
        DenseFeatures(features), one, features.double().norm(dim=-1), torch.tensor([2]), torch.zeros(15).bool()
    )
    assert (rank < 15).nonzero().flatten().tolist() == [0, 12]


def test_what_is_kept_anyway_is_not_represented_again() -> None:
    features = torch.tensor([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [0.0, 1.0]]).view(1, 1, 4, 2)
    one = torch.zeros(4, dtype=torch.int64)
    known = torch.tensor([True, False, False, False])
    rank = coverage_ranks(DenseFeatures(features), one, features.double().norm(dim=-1), torch.tensor([2]), known)
    assert rank.tolist() == [0, 4, 1, 4]


def test_blocks_do_not_change_the_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn((4, 3, 3, 8), generator=generator)
    community = torch.randint(0, 6, (36,), generator=generator)
    arguments = community, features.double().norm(dim=-1), torch.full((6,), 2), torch.zeros(36).bool()
    whole = coverage_ranks(DenseFeatures(features), *arguments)
    monkeypatch.setattr(coverage, "ROWS", {"cpu": 5})
    monkeypatch.setattr(coverage, "COSINES", 40)
    assert torch.equal(coverage_ranks(DenseFeatures(features), *arguments), whole)


def test_a_zero_vector_covers_nothing_and_is_ranked_last() -> None:
    features = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0]]).view(1, 1, 3, 2)
    rank = coverage_ranks(
        DenseFeatures(features),
        torch.zeros(3, dtype=torch.int64),
        features.double().norm(dim=-1),
        torch.tensor([3]),
        torch.zeros(3).bool(),
    )
    assert rank.tolist() == [1, 0, 2]  # after the first, nothing is left to gain: the lower index comes first
