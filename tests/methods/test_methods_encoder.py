"""Methods that choose by the vision encoder's own attention, held to small cases worked out by hand and to plain loops.

What every method must keep is in test_methods.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch

from stsimdiff_cli.errors import RequestError
from stsimdiff_cli.methods.base import Method
from stsimdiff_cli.methods.fastervlm import FasterVLM
from stsimdiff_cli.methods.prumerge import PruMerge, PruMergePlus
from stsimdiff_cli.methods.visionzip import VisionZip
from stsimdiff_cli.ratio import parse_ratio
from stsimdiff_cli.records import Selection, VideoTokens
from stsimdiff_cli.token_features import DenseFeatures
from tests.support.references.st_simdiff import ceil_of, cosine, video

METHODS = [
    FasterVLM(),
    PruMerge(),
    PruMerge(extra=False),
    PruMergePlus(),
    PruMergePlus(extra=False),
    VisionZip(),
    VisionZip(dominant=1, contextual=9),
    VisionZip(dominant=0, contextual=1),
    VisionZip(dominant=1, contextual=0),
]
MERGING = [method for method in METHODS if not isinstance(method, FasterVLM)]

every_method = pytest.mark.parametrize("method", METHODS, ids=repr)
every_merging_method = pytest.mark.parametrize("method", MERGING, ids=repr)


def choose(method: Method, tokens: VideoTokens, ratio: str | Fraction) -> Selection:
    nobody: Any = None  # none of these methods asks the LLM
    return method.select(tokens, parse_ratio(ratio), nobody, lambda step: None)


def row(x: Any, saliency: Any, keys: Any = None, heads: int = 1) -> VideoTokens:
    """One slot of one row: x (n, D) or (n,), saliency (n,), keys (n, heads x K)."""
    features = torch.tensor(x, dtype=torch.float32).view(1, 1, len(x), -1)
    evidence = {"saliency": torch.tensor(saliency, dtype=torch.float32).view(1, 1, -1)}
    if keys is not None:
        evidence["keys"] = torch.tensor(keys, dtype=torch.float32).view(1, 1, len(x), heads, -1)
    return video(features, **evidence)


def noise(
    shape: tuple[int, int, int], seed: int = 0, width: int = 8, dtype: torch.dtype = torch.float32, heads: int = 2
) -> VideoTokens:
    chance = torch.Generator().manual_seed(seed)
    return video(
        torch.randn((*shape, width), generator=chance).to(dtype),
        saliency=torch.rand(shape, generator=chance),
        keys=torch.randn((*shape, heads, 6 // heads), generator=chance),
    )


def kept_features(selection: Selection, tokens: VideoTokens) -> torch.Tensor:
    if selection.features is None:
        return tokens.features.tensor().flatten(0, 2)[selection.index]
    return selection.features


# --- Shares of slots --------------------------------------------------------------------------------------------------


def two_slots() -> VideoTokens:
    saliency = torch.tensor([[0.1, 0.4, 0.2, 0.3], [0.9, 0.9, 0.9, 0.9]]).view(2, 1, 4)
    return video(torch.arange(8.0).view(2, 1, 4, 1), saliency=saliency)


@pytest.mark.parametrize(
    ("ratio", "index"),
    [
        ("0.1", [4]),  # 1 of 8: floor(1 x 4 / 8) = 0 for the first slot
        ("0.25", [1, 4]),  # 2 of 8: one a slot, although all of the second slot are above all of the first
        ("0.375", [1, 4, 5]),  # 3 of 8: floor(3 x 4 / 8) = 1, then 2; ties to the lower index
        ("0.5", [1, 3, 4, 5]),
        ("0.6", [1, 3, 4, 5, 6]),  # ceil(4.8) = 5: floor(5 x 4 / 8) = 2, then 3
        ("1", list(range(8))),
    ],
)
def test_fastervlm_takes_the_most_salient_tokens_of_every_slot(ratio: str, index: list[int]) -> None:
    tokens = two_slots()
    got = choose(FasterVLM(), tokens, ratio)
    assert got.index.tolist() == index
    assert got.features is None
    assert got.counts == {"tokens": 8, "kept": len(index), "candidates": 8}


@every_method
@pytest.mark.parametrize("ratio", ["0.001", "0.01", "0.1", "0.34", "0.5", "0.77", "0.9", "0.99", "1"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 2), (1, 7, 7), (2, 3, 5), (7, 1, 1), (7, 1, 2), (9, 4, 4)])
def test_slots_share_the_budget_exactly(method: Method, ratio: str, shape: tuple[int, int, int]) -> None:
    tokens = noise(shape)
    slots, area = shape[0], shape[1] * shape[2]
    got = choose(method, tokens, ratio)
    budget = ceil_of(ratio, slots * area)
    upto = [budget * t // slots for t in range(slots + 1)]  # running sums of the shares of equal slots
    each = torch.bincount(got.index // area, minlength=slots).tolist()
    assert each == [upto[t + 1] - upto[t] for t in range(slots)]
    assert got.index.tolist() == sorted(set(got.index.tolist()))
    assert kept_features(got, tokens).shape == (budget, 8)


@every_method
def test_equal_attention_leaves_the_choice_to_the_index(method: Method) -> None:
    # 20 of 196 tokens a slot: the first ones where the most salient are taken; spaced ones begin at the first.
    tokens = noise((2, 14, 14))
    tokens.evidence["saliency"].tensor().fill_(0.25)
    got = choose(method, tokens, Fraction(40, 392))
    assert torch.equal(got.index[:20] + 196, got.index[20:])
    assert int(got.index[0]) == 0
    if isinstance(method, FasterVLM) or type(method) is PruMerge:
        assert got.index[:20].tolist() == list(range(20))


# --- PruMerge ---------------------------------------------------------------------------------------------------------

# Four tokens. Attention 0.1, 0.075, 0.05, 0.025 sums to 0.25, as after a 2 x 2 mean: scaled, 0.4 0.3 0.2 0.1.
# Cosines of keys: 0 between 0 and 1; 0.8 between 0 and 2 and between 1 and 3; 0.6 between 0 and 3 and between 1 and 2.
# Their lengths differ, so that products without normalisation would find other neighbours: k2 . k1 = 6 > k3 . k1 = 0.8.
FOUR = row(
    [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]], [0.1, 0.075, 0.05, 0.025], [[1, 0], [0, 1], [8, 6], [0.6, 0.8]]
)


@pytest.mark.parametrize(
    ("neighbors", "features"),
    [
        # Three tokens: centres 0 and 1; the extra one is 0.2 x2 + 0.1 x3 and stands at 2, the more salient of the rest.
        (0, [[1, 0, 0], [0, 1, 0], [0.1, 0.1, 0.3]]),
        # Nearest to 0 is 2: x0 + 0.2 x2. Nearest to 1 is 3: x1 + 0.1 x3.
        (1, [[1, 0, 0.2], [0.1, 1.1, 0.1], [0.1, 0.1, 0.3]]),
        (2, [[1.1, 0.1, 0.3], [0.1, 1.1, 0.3], [0.1, 0.1, 0.3]]),
        # All others, the other centre too: x0 + 0.3 x1 + 0.2 x2 + 0.1 x3.
        (3, [[1.1, 0.4, 0.3], [0.5, 1.1, 0.3], [0.1, 0.1, 0.3]]),
        (32, [[1.1, 0.4, 0.3], [0.5, 1.1, 0.3], [0.1, 0.1, 0.3]]),
    ],
)
def test_prumerge_adds_the_neighbours_times_their_attention(neighbors: int, features: list[list[float]]) -> None:
    got = choose(PruMerge(neighbors=neighbors), FOUR, "0.75")
    assert got.index.tolist() == [0, 1, 2]
    assert got.features is not None
    torch.testing.assert_close(got.features, torch.tensor(features))
    assert (got.counts["salient"], got.counts["spaced"], got.counts["extra"]) == (2, 0, 1)


def test_prumerge_without_the_extra_token_has_one_more_centre() -> None:
    got = choose(PruMerge(neighbors=1, extra=False), FOUR, "0.75")
    assert got.index.tolist() == [0, 1, 2]
    assert got.features is not None
    # Nearest to 2 is 3 (cosine 0.48 + 0.48 = 0.96), then 0 (0.8).
    torch.testing.assert_close(got.features, torch.tensor([[1, 0, 0.2], [0.1, 1.1, 0.1], [0.1, 0.1, 1.1]]))
    assert (got.counts["salient"], got.counts["extra"]) == (3, 0)


def test_the_extra_token_of_prumerge_stands_in_raster_order() -> None:
    # The same tokens backwards: centres 2 and 3, the extra token at 1, before them.
    back = VideoTokens.of(FOUR.grid, {name: x.tensor().flip(2) for name, x in FOUR.tensors.items()})
    got = choose(PruMerge(neighbors=1), back, "0.75")
    assert got.index.tolist() == [1, 2, 3]
    assert got.features is not None
    torch.testing.assert_close(got.features, torch.tensor([[0.1, 0.1, 0.3], [0.1, 1.1, 0.1], [1, 0, 0.2]]))


def test_a_single_token_of_prumerge_is_a_centre() -> None:
    got = choose(PruMerge(neighbors=1), FOUR, "0.25")
    assert got.index.tolist() == [0]
    assert got.features is not None
    torch.testing.assert_close(got.features, torch.tensor([[1, 0, 0.2]]))


def test_equal_neighbours_of_prumerge_are_taken_from_the_lowest() -> None:
    # All keys point the same way, with lengths whose rounding differs: the two lowest others are added to token 3.
    keys = [[length, 2 * length, 3 * length] for length in (1, 0.1, 0.7, 1.3, 0.3)]
    got = choose(PruMerge(neighbors=2, extra=False), row([1, 10, 100, 1000, 10000], [1, 1, 1, 6, 1], keys), "0.2")
    assert got.index.tolist() == [3]
    assert got.features is not None
    torch.testing.assert_close(got.features, torch.tensor([[1000 + 0.1 * 1 + 0.1 * 10]]))


def test_tokens_without_attention_weigh_the_same() -> None:
    got = choose(PruMerge(neighbors=1), row([1, 2, 3, 6], [0] * 4, [[1]] * 4), "0.5")
    assert got.index.tolist() == [0, 1]
    assert got.features is not None
    torch.testing.assert_close(got.features, torch.tensor([[1 + 2 / 4], [(2 + 3 + 6) / 4]]))


def slow_prumerge(tokens: VideoTokens, centers: Sequence[int], neighbors: int) -> dict[int, list[float]]:
    """One slot, plain loops: the merged centres by position, and the extra token under -1."""
    x = tokens.features.tensor().double().flatten(0, 2).tolist()
    keys = tokens.evidence["keys"].tensor().double().flatten(0, 2).flatten(1).tolist()
    saliency = tokens.evidence["saliency"].tensor().double().flatten().tolist()
    a = [value / math.fsum(saliency) for value in saliency]
    out = {}
    for i in centers:
        others = sorted((j for j in range(len(x)) if j != i), key=lambda j: -cosine(keys[i], keys[j]))[:neighbors]
        out[i] = [x[i][d] + math.fsum(a[j] * x[j][d] for j in others) for d in range(len(x[i]))]
    dropped = [j for j in range(len(x)) if j not in centers]
    out[-1] = [math.fsum(a[j] * x[j][d] for j in dropped) for d in range(len(x[0]))]
    return out


@pytest.mark.parametrize("seed", range(3))
def test_prumerge_agrees_with_plain_loops(seed: int) -> None:
    tokens = noise((1, 9, 10), seed)
    saliency = tokens.evidence["saliency"].tensor().flatten().tolist()
    order = sorted(range(90), key=lambda j: -saliency[j])
    expected = slow_prumerge(tokens, order[:17], 32)
    expected[order[17]] = expected.pop(-1)
    got = choose(PruMerge(), tokens, "0.2")  # 18 tokens
    assert got.index.tolist() == sorted(order[:18])
    assert got.features is not None
    torch.testing.assert_close(got.features, torch.tensor([expected[i] for i in sorted(expected)]))


# --- PruMerge+ --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "index", "salient"),
    [
        # Twelve tokens, attention 1 but 9 at tokens 5 and 8: Q1 = Q3 = 1, outliers are above 1.
        ("0.08", [5], 1),  # more outliers than room
        ("0.15", [5, 8], 2),
        # The others are 0 1 2 3 4 6 7 9 10 11, m = 10. f = 1: number 0. f = 4: numbers 0, 2, 5, 7.
        ("0.25", [0, 5, 8], 2),
        ("0.5", [0, 2, 5, 6, 8, 9], 2),
        ("0.75", [0, 1, 2, 4, 5, 6, 8, 9, 10], 2),  # f = 7: numbers 0 1 2 4 5 7 8 are tokens 0 1 2 4 6 9 10
    ],
)
def test_prumerge_plus_fills_up_with_evenly_spaced_tokens(ratio: str, index: list[int], salient: int) -> None:
    tokens = row([0.0] * 12, [1, 1, 1, 1, 1, 9, 1, 1, 9, 1, 1, 1], [[1, 0]] * 12)
    got = choose(PruMergePlus(extra=False), tokens, ratio)
    assert got.index.tolist() == index
    assert (got.counts["salient"], got.counts["spaced"], got.counts["extra"]) == (salient, len(index) - salient, 0)


@pytest.mark.parametrize(("last", "index"), [(12.0, [0, 7]), (11.0, [0, 4])])
def test_outliers_are_above_the_third_quartile_and_one_and_a_half_interquartile_ranges(
    last: float, index: list[int]
) -> None:
    # Attention 1 .. 7 and one more: rank 7 x 0.25 = 1.75 gives Q1 = 2.75, rank 5.25 gives Q3 = 6.25.
    # The limit is 6.25 + 1.5 x 3.5 = 11.5: 12 is an outlier, 11 is none, so that two of eight are spaced: 0 and 4.
    tokens = row([0.0] * 8, [1, 2, 3, 4, 5, 6, 7, last], [[1, 0]] * 8)
    assert choose(PruMergePlus(extra=False), tokens, "0.25").index.tolist() == index


def test_every_slot_of_prumerge_plus_has_its_own_quartiles() -> None:
    # Eight tokens a slot, two kept. Over the video, all of the second slot would be outliers of the first.
    saliency = torch.tensor([[1.0, 1, 1, 1, 1, 1, 1, 2], [50.0, 50, 50, 50, 50, 50, 90, 50]]).view(2, 1, 8)
    tokens = video(torch.zeros(2, 1, 8, 1), saliency=saliency, keys=torch.ones(2, 1, 8, 1, 2))
    assert choose(PruMergePlus(extra=False), tokens, "0.25").index.tolist() == [0, 7, 8, 14]


def test_prumerge_plus_merges_as_prumerge_does() -> None:
    tokens = noise((1, 9, 10), 5)
    tokens.evidence["saliency"].tensor()[0, 4, [3, 7]] = 8  # outliers 43 and 47
    saliency = tokens.evidence["saliency"].tensor().flatten().tolist()
    # 18 tokens: 17 centres and the extra one. 15 of the 88 others: number floor(i 88 / 15).
    others = [j for j in range(90) if j not in (43, 47)]
    centers = sorted([43, 47, *(others[i * 88 // 15] for i in range(15))])
    expected = slow_prumerge(tokens, centers, 32)
    place = max((j for j in range(90) if j not in centers), key=lambda j: saliency[j])
    expected[place] = expected.pop(-1)
    got = choose(PruMergePlus(), tokens, "0.2")
    assert got.index.tolist() == sorted(expected)
    assert got.features is not None
    torch.testing.assert_close(got.features, torch.tensor([expected[i] for i in sorted(expected)]))
    assert (got.counts["salient"], got.counts["spaced"], got.counts["extra"]) == (2, 15, 1)


# --- VisionZip --------------------------------------------------------------------------------------------------------

# Eight tokens, 1 dominant (token 3) and 2 contextual: of the others 0 1 2 4 5 6 7, every floor(7 / 2) = 3rd is a
# target, the first two: 0 and 4 (7 would be the third). Keys: target 0 points right, target 4 points up.
# Token 1 (4, 3) goes to 0, tokens 2, 5 (3, 4) to 4; 6 (9, 1) to 0; 7 (1, 1) is as near to both and goes to the lower.
EIGHT = row(
    [1, 2, 4, 8, 16, 32, 64, 128],
    [0, 0, 0, 1, 0, 0, 0, 0],
    [[1, 0], [4, 3], [3, 4], [-5, 2], [0, 1], [3, 4], [9, 1], [1, 1]],
)


def test_visionzip_adds_the_mean_of_the_assigned_tokens_to_their_target() -> None:
    got = choose(VisionZip(dominant=1, contextual=2), EIGHT, "0.375")
    assert got.index.tolist() == [0, 3, 4]
    # 1 + (2 + 64 + 128) / 3; token 3 as it is; 16 + (4 + 32) / 2.
    assert got.features is not None
    torch.testing.assert_close(got.features, torch.tensor([[1 + 194 / 3], [8], [34]]))
    assert (got.counts["dominant"], got.counts["contextual"]) == (1, 2)


def test_a_target_of_visionzip_that_nobody_joins_stays_as_it_is() -> None:
    keys = [[1, 0], [1, 0], [1, 0], [1, 0], [-1, 0], [1, 0], [1, 0], [1, 0]]
    got = choose(
        VisionZip(dominant=1, contextual=2), row([1, 2, 4, 8, 16, 32, 64, 128], [0, 0, 0, 1, 0, 0, 0, 0], keys), "0.375"
    )
    assert got.features is not None
    torch.testing.assert_close(got.features, torch.tensor([[1 + (2 + 4 + 32 + 64 + 128) / 5], [8], [16]]))


def test_tokens_as_near_to_two_targets_of_visionzip_join_the_lower() -> None:
    # All keys point the same way, with lengths whose rounding differs: everything joins the first target, token 0.
    lengths = torch.rand(40, generator=torch.Generator().manual_seed(0)) + 0.1
    keys = lengths[:, None] * torch.tensor([1.0, 2.0, 3.0, 5.0, 7.0])
    tokens = row([1.0] * 40, [0] * 39 + [1], keys.tolist())
    got = choose(VisionZip(dominant=1, contextual=9), tokens, "0.25")
    assert got.index.tolist() == [*range(0, 36, 4), 39]  # of 39 others, every floor(39 / 9) = 4th
    assert got.features is not None
    assert got.features.flatten().tolist() == [2] + [1] * 9


def test_visionzip_averages_keys_over_heads() -> None:
    # Two heads side by side. Of 0 .. 3, 3 is dominant and 0 and 1 are targets. Token 2 is (9, 1 | -9, 3), whose mean
    # over heads is (0, 2), along (0, 1) of token 1 and across (0.5, 0) of token 0; side by side it is nearer to 0.
    keys = [[9, 0, -8, 0], [0, 1, 0, 1], [9, 1, -9, 3], [1, 1, 1, 1]]
    split, joined = (
        choose(VisionZip(dominant=1, contextual=2), row([1, 2, 4, 8], [0, 0, 0, 1], keys, heads), "0.75")
        for heads in (2, 1)
    )
    assert split.index.tolist() == joined.index.tolist() == [0, 1, 3]
    assert split.features is not None and split.features.flatten().tolist() == [1, 6, 8]
    assert joined.features is not None and joined.features.flatten().tolist() == [5, 2, 8]


@pytest.mark.parametrize(
    ("kept", "dominant"),
    [(1, 1), (2, 1), (3, 2), (20, 16), (30, 25), (40, 33), (50, 42), (64, 54), (128, 108), (196, 165)],
)
def test_visionzip_divides_a_share_54_to_10(kept: int, dominant: int) -> None:
    # floor(54 kept / 64): 16.9, 25.3, 33.8 and 42.2 for 20 to 50 tokens of 196; but the first is always dominant.
    got = choose(VisionZip(), noise((1, 14, 14)), Fraction(kept, 196))
    assert (got.counts["kept"], got.counts["dominant"], got.counts["contextual"]) == (kept, dominant, kept - dominant)


def test_visionzip_with_one_part_alone() -> None:
    tokens = noise((3, 4, 5))
    salient = choose(VisionZip(dominant=1, contextual=0), tokens, "0.3")
    assert torch.equal(salient.index, choose(FasterVLM(), tokens, "0.3").index)
    assert torch.equal(kept_features(salient, tokens), tokens.features.tensor().flatten(0, 2)[salient.index])
    assert VisionZip(contextual=0).needs == {"saliency"}
    spaced = choose(VisionZip(dominant=0, contextual=1), tokens, "0.3")  # 6 of 20: every 3rd, the first six
    assert spaced.index.tolist() == [start + place for start in (0, 20, 40) for place in (0, 3, 6, 9, 12, 15)]


def slow_visionzip(tokens: VideoTokens, dominant: int, contextual: int) -> list[tuple[int, list[float]]]:
    """One image, as the paper and its code say it, one token at a time: position and feature, dominant tokens first."""
    x = tokens.features.tensor().double().flatten(0, 2).tolist()
    saliency = tokens.evidence["saliency"].tensor().double().flatten().tolist()
    metric = []
    for key in tokens.evidence["keys"].tensor().double().flatten(0, 2).tolist():  # by head
        metric.append([math.fsum(values) / len(key) for values in zip(*key, strict=True)])
    by_attention = sorted(range(len(x)), key=lambda i: -saliency[i])
    kept = sorted(by_attention[:dominant])
    out = [(i, x[i]) for i in kept]
    rest = [i for i in range(len(x)) if i not in kept]
    stride = max(1, len(rest) // contextual)
    targets = [rest[place] for place in range(0, len(rest), stride)][:contextual]
    joined: dict[int, list[int]] = {i: [] for i in targets}
    for j in rest:
        if j not in joined:
            joined[max(targets, key=lambda i: cosine(metric[i], metric[j]))].append(j)
    for i in targets:
        mean = [sum(x[j][d] for j in joined[i]) / max(1, len(joined[i])) for d in range(len(x[i]))]
        out.append((i, [a + b for a, b in zip(x[i], mean, strict=True)]))
    return out


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize(
    ("side", "ratio", "dominant", "contextual"),
    [(16, "0.25", 54, 10), (24, "1/9", 54, 10), (16, "0.5", 108, 20), (24, "1/3", 162, 30), (8, "1", 54, 10)],
)
def test_visionzip_agrees_with_plain_loops_where_the_published_counts_apply(
    side: int, ratio: str, dominant: int, contextual: int, heads: int, seed: int
) -> None:
    tokens = noise((1, side, side), seed, width=4, heads=heads)
    expected = dict(slow_visionzip(tokens, dominant, contextual))
    got = choose(VisionZip(), tokens, Fraction(ratio))
    assert got.index.tolist() == sorted(expected)
    torch.testing.assert_close(kept_features(got, tokens), torch.tensor([expected[i] for i in sorted(expected)]))


# --- What all of them keep to -----------------------------------------------------------------------------------------


@every_method
def test_slots_know_nothing_of_each_other(method: Method) -> None:
    tokens = noise((3, 8, 8))
    whole = choose(method, tokens, "0.5")
    for t in range(3):
        evidence = {name: x.tensor()[t : t + 1] for name, x in tokens.evidence.items()}
        slot = video(tokens.features.tensor()[t : t + 1], **evidence)
        alone = choose(method, slot, "0.5")
        inside = whole.index // 64 == t
        assert (whole.index[inside] - 64 * t).tolist() == alone.index.tolist()
        torch.testing.assert_close(kept_features(whole, tokens)[inside], kept_features(alone, slot))


@every_method
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_nothing_changes_at_ratio_1(method: Method, dtype: torch.dtype) -> None:
    tokens = noise((2, 3, 4), dtype=dtype)
    tokens = replace(tokens, features=DenseFeatures(tokens.features.tensor() / 3))  # float64 that float32 cannot hold
    got = choose(method, tokens, "1")
    assert got.index.tolist() == list(range(24))
    assert torch.equal(kept_features(got, tokens), tokens.features.tensor().flatten(0, 2))
    assert kept_features(got, tokens).dtype == dtype


@every_merging_method
def test_a_slot_that_keeps_all_its_tokens_is_left_as_it_is(method: Method) -> None:
    tokens = noise((3, 1, 2))
    got = choose(method, tokens, "0.8")  # ceil(4.8) = 5 of 6: floor(5 x 2 / 6) = 1, then 2, then 2
    assert got.index.tolist()[1:] == [2, 3, 4, 5]
    assert torch.equal(kept_features(got, tokens)[1:], tokens.features.tensor().flatten(0, 2)[2:])


@every_merging_method
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_merging_is_done_in_float32(method: Method, dtype: torch.dtype) -> None:
    low = noise((2, 8, 8), dtype=dtype)
    got = choose(method, low, "0.3")
    exact = choose(method, replace(low, features=DenseFeatures(low.features.tensor().float())), "0.3")
    assert kept_features(got, low).dtype == dtype
    assert torch.equal(kept_features(got, low), kept_features(exact, low).to(dtype))


@every_merging_method
@pytest.mark.parametrize("factor", [2.0**-40, 2.0**40])
def test_merged_features_scale_with_the_features(method: Method, factor: float) -> None:
    tokens = noise((2, 8, 8))
    scaled = replace(tokens, features=DenseFeatures(tokens.features.tensor() * factor))
    first, second = choose(method, tokens, "0.3"), choose(method, scaled, "0.3")
    assert torch.equal(first.index, second.index)
    assert torch.equal(kept_features(first, tokens) * factor, kept_features(second, scaled))


@every_merging_method
def test_the_scale_of_attention_and_keys_does_not_matter(method: Method) -> None:
    tokens = noise((2, 8, 8))
    evidence = {
        "saliency": tokens.evidence["saliency"].tensor() / 4,
        "keys": tokens.evidence["keys"].tensor() * 2.0**-70,
    }
    first, second = (
        choose(method, tokens, "0.3"),
        choose(method, VideoTokens.of(tokens.grid, {"features": tokens.features.tensor(), **evidence}), "0.3"),
    )
    assert torch.equal(first.index, second.index)
    torch.testing.assert_close(kept_features(first, tokens), kept_features(second, tokens))


@every_method
@pytest.mark.parametrize("ratio", ["0.1", "0.5", "0.9"])
def test_zeros_and_constants_give_numbers(method: Method, ratio: str) -> None:
    for value in (0.0, 1.0):
        full = torch.full((2, 5, 5, 8), value)
        tokens = video(full, saliency=full[..., 0], keys=full[..., None, :6])
        got = choose(method, tokens, ratio)
        assert len(got.index) == ceil_of(ratio, 50)
        assert bool(torch.isfinite(kept_features(got, tokens)).all())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PruMerge(neighbors=-1), "neighbors must be at least 0, got -1."),
        (lambda: PruMergePlus(neighbors=-1), "neighbors must be at least 0, got -1."),
        (lambda: VisionZip(dominant=-1), "dominant and contextual must be at least 0 and not both 0, got -1 and 10."),
        (lambda: VisionZip(contextual=-1), "dominant and contextual must be at least 0 and not both 0, got 54 and -1."),
        (
            lambda: VisionZip(dominant=0, contextual=0),
            "dominant and contextual must be at least 0 and not both 0, got 0 and 0.",
        ),
    ],
)
def test_parameters_that_do_not_fit_are_refused(make: Any, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        make()
    assert str(caught.value) == message
    assert caught.value.hint
