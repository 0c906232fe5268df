"""VisPruner, EVS and VidCom2: small cases worked out by hand, and the published algorithms written out slowly."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from stsimdiff_cli.errors import RequestError, StsimdiffError
from stsimdiff_cli.methods import vispruner
from stsimdiff_cli.methods.base import Method
from stsimdiff_cli.methods.evs import Evs
from stsimdiff_cli.methods.uniform import Uniform
from stsimdiff_cli.methods.vidcom2 import VidCom2, bounded_shares, gaussian, least_varying
from stsimdiff_cli.methods.vispruner import VisPruner, distinct
from stsimdiff_cli.ratio import parse_ratio
from stsimdiff_cli.records import Coverage, Selection, VideoTokens
from tests.support.references.st_simdiff import UndecidedError, cosine, video


def choose(method: Method, tokens: VideoTokens, ratio: str | Fraction) -> Selection:
    return method.select(tokens, parse_ratio(ratio), None, lambda step: None)  # none of them may touch the LLM


def kept(method: Method, tokens: VideoTokens, ratio: str | Fraction) -> list[int]:
    return choose(method, tokens, ratio).index.tolist()


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def at_angles(*degrees: float) -> torch.Tensor:
    """Unit vectors (n, 2): the cosine of two is the cosine of the angle between them."""
    angle = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angle.cos(), angle.sin()], dim=1)


# --- EVS --------------------------------------------------------------------------------------------------------------

# Two cells over three slots. Cosines to the previous slot: cell 0: 1, then 4/5; cell 1: 3/5, then 3/5 again (on its way
# back). Differences of positions 2 to 5: 0, 0.4, 0.2, 0.4. To the first slot they would be 0, 0.4, 0.2, 0.
# Lengths do not matter: some vectors are long.
MOVING = torch.tensor([[[[1, 0], [1, 0]]], [[[7, 0], [3, 4]]], [[[400, 300], [50, 0]]]]).float()


@pytest.mark.parametrize(
    ("budget", "index"),
    [
        (1, [1]),  # half a slot: the middle of it, floor(2 / 2)
        (2, [0, 1]),
        (3, [0, 1, 3]),  # 3 and 5 are equally different: the lower index
        (4, [0, 1, 3, 5]),
        (5, [0, 1, 3, 4, 5]),
        (6, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_evs_keeps_the_first_slot_and_then_what_differs_most_from_the_slot_before(
    budget: int, index: list[int]
) -> None:
    got = choose(Evs(), video(MOVING), Fraction(budget, 6))
    assert got.index.tolist() == index
    assert got.counts["first_slot"] == min(budget, 2)


def test_evs_is_what_the_loop_over_all_tokens_finds() -> None:
    for seed in range(20):
        features = noise(5, 3, 4, 6, seed=seed)
        x = features.double().flatten(0, 2).tolist()
        # The first 12 of 60 tokens count as infinitely different, all others are compared with the one 12 before them.
        difference = [math.inf] * 12 + [1 - cosine(x[i], x[i - 12]) for i in range(12, 60)]
        for budget in (12, 13, 30, 59):
            order = sorted(range(60), key=lambda i: -difference[i])
            assert kept(Evs(), video(features), Fraction(budget, 60)) == sorted(order[:budget])


def test_evs_keeps_nothing_but_the_first_of_two_slots_where_the_budget_is_no_larger() -> None:
    tokens = video(noise(2, 2, 5, 4))
    # 6 of 20: floor((2 i + 1) 10 / 12) for i = 0 .. 5: 0.8, 2.5, 4.2, 5.8, 7.5, 9.2, rounded down.
    assert kept(Evs(), tokens, "0.3") == [0, 2, 4, 5, 7, 9]
    assert kept(Evs(), tokens, "0.5") == list(range(10))
    assert kept(Evs(), tokens, "0.55")[:10] == list(range(10))


def test_evs_spaces_the_tokens_of_a_single_slot_evenly() -> None:
    tokens = video(noise(1, 3, 7, 4))
    for ratio in ("0.01", "0.3", "0.9", "1"):
        assert kept(Evs(), tokens, ratio) == kept(Uniform(), tokens, ratio)


# Tokens of one direction and many lengths: their cosines differ from 1 by rounding alone.
PARALLEL = torch.tensor([0.3, 0.7, 1.1, 0.9, 0.2]) * torch.arange(1, 25).view(4, 2, 3, 1)


@pytest.mark.parametrize("content", [torch.zeros(4, 2, 3, 5), torch.full((4, 2, 3, 5), 0.3), PARALLEL])
def test_evs_takes_the_lower_index_where_nothing_changes(content: torch.Tensor) -> None:
    assert kept(Evs(), video(content), "0.5") == list(range(12))


def test_a_token_that_vanishes_is_different_for_evs() -> None:
    features = torch.ones(2, 1, 3, 4)
    features[1, 0, 1] = 0  # the cosine with a zero vector is 0, so the difference is 1
    features[1, 0, 2, 0] = 3  # cosine 6 / (2 sqrt(12)) = 0.87
    assert kept(Evs(), video(features), Fraction(4, 6)) == [0, 1, 2, 4]
    assert kept(Evs(), video(features), Fraction(5, 6)) == [0, 1, 2, 4, 5]


# --- VisPruner --------------------------------------------------------------------------------------------------------


class UndefinedError(Exception):
    """The published code fails here: its index tensors differ in width."""


def published_vispruner(x: list[list[float]], attention: list[float], budget: int, rho: float) -> list[int]:
    """One image, in plain lists: `x` are the features, `attention` is what each token receives."""
    order = sorted(range(len(x)), key=lambda i: -attention[i])
    important = int(budget * rho)
    wanted = budget - important
    chosen, rest = order[:important], order[important:]
    while wanted > 0:
        drop = min(8, len(rest) - wanted)
        if drop <= 0:
            break
        even, odd = rest[::2], rest[1::2]
        if len(even) != len(odd) or drop > len(even):
            raise UndefinedError
        nearest = {i: max(cosine(x[i], x[j]) for j in odd) for i in even}
        by_similarity = sorted(even, key=lambda i: -nearest[i])
        if any(nearest[i] - nearest[j] < 1e-9 for i, j in itertools.pairwise(by_similarity)):
            raise UndecidedError
        rest = by_similarity[drop:] + odd
    return sorted(chosen + rest if wanted > 0 else chosen)


@pytest.mark.parametrize("rho", [0, 0.25, 0.5, 0.75, 1])
def test_vispruner_is_the_published_algorithm_wherever_that_is_defined(rho: float) -> None:
    compared = 0
    for size, budget in itertools.product((16, 33, 34, 40), range(1, 33)):
        if budget > size:
            continue
        features, saliency = noise(2, 1, size, 6, seed=budget), noise(2, 1, size, seed=size)
        expected = []
        try:
            for t in range(2):
                image = features[t, 0].double().tolist()
                expected += [t * size + i for i in published_vispruner(image, saliency[t, 0].tolist(), budget, rho)]
        except (UndefinedError, UndecidedError):
            continue
        tokens = video(features, saliency=saliency)
        assert kept(VisPruner(important_ratio=rho), tokens, Fraction(budget, size)) == expected
        compared += 1
    assert compared >= 20


# Attention rises with the position, so that the order of attention is 9, 8, .. 0.
RISING = torch.arange(10).float().view(1, 1, 10)
# With a budget of 8 or 9, the rest is 5, 4, 3, 2, 1, 0. Even places: 5, 3, 1. Odd places: 4, 2, 0 (0, 90, 180 degrees).
# Largest cosines of the even ones: 5 (10 degrees) to 4: cos 10 = 0.985; 3 (45) to 4 or 2: 0.707; 1 (175) to 0: 0.996.
# By the mean of the cosines, 3 would be the most similar instead.
SPREAD = at_angles(180, 175, 90, 45, 0, 10, 0, 0, 0, 0).float().view(1, 1, 10, 2)


@pytest.mark.parametrize(
    ("ratio", "index", "important"),
    [
        ("0.8", [0, 2, 3, 4, 6, 7, 8, 9], 4),  # 4 of 6 are left: 1 and 5 go
        ("0.9", [0, 2, 3, 4, 5, 6, 7, 8, 9], 4),  # 5 of 6 are left: 1 goes
        # Budget 4, 2 of them important: 9 and 8. Of 7 .. 0, 6 must go, but only 4 are even: 7, 5, 3, 1. Then 6, 4, 2, 0
        # are left; 2 must go, and the even ones are 6 and 2. The published code fails here.
        ("0.4", [0, 4, 8, 9], 2),
    ],
)
def test_vispruner_drops_the_even_places_that_are_most_similar_to_an_odd_one(
    ratio: str, index: list[int], important: int
) -> None:
    got = choose(VisPruner(), video(SPREAD, saliency=RISING), ratio)
    assert got.index.tolist() == index
    assert (got.counts["important"], got.counts["diverse"]) == (important, len(index) - important)


def test_survivors_are_listed_most_similar_first_and_before_the_odd_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vispruner, "_DROPPED", 1)
    x = at_angles(5, 0, 45, 90, 120, 180)
    # 1. even 0 (5), 2 (45), 4 (120); odd 1 (0), 3 (90), 5 (180). Angles to the nearest odd one: 5, 45, 30: 0 goes.
    assert distinct(x, 5).tolist() == [4, 2, 1, 3, 5]
    # 2. even 4 (120), 1 (0), 5 (180); odd 2 (45), 3 (90). Angles 30, 45, 90: 4 goes.
    assert distinct(x, 4).tolist() == [1, 5, 2, 3]
    # 3. even 1 (0), 2 (45); odd 5 (180), 3 (90). Angles 90, 45: 2 goes.
    assert distinct(x, 3).tolist() == [1, 5, 3]
    # 4. even 1 (0), 3 (90); odd 5 (180): an odd list, its last is at an even place. Angles 180, 90: 3 goes.
    assert distinct(x, 2).tolist() == [1, 5]
    assert distinct(x, 1).tolist() == [5]


@pytest.mark.parametrize(("size", "budget"), [(169, 52), (196, 59), (576, 127), (10, 4), (7, 1), (3, 2)])
@pytest.mark.parametrize("features", [noise(1, 1, 576, 4), torch.zeros(1, 1, 576, 4), torch.ones(1, 1, 576, 4)])
def test_vispruner_gets_through_where_the_published_code_fails(size: int, budget: int, features: torch.Tensor) -> None:
    tokens = video(features[:, :, :size], saliency=noise(1, 1, size, seed=5))
    got = choose(VisPruner(), tokens, Fraction(budget, size))
    assert len(set(got.index.tolist())) == budget
    assert got.counts["important"] == budget // 2
    by_attention = tokens.evidence["saliency"].tensor().flatten().argsort(descending=True)
    assert set(by_attention[: budget // 2].tolist()) <= set(got.index.tolist())


@pytest.mark.parametrize(
    ("ratio", "index"),
    [
        # Attention is the same everywhere: 0 and 1 are important. Of 2, 3, 4, 5 the even places are 2 and 4.
        (Fraction(4, 6), [0, 1, 3, 5]),
        (Fraction(5, 6), [0, 1, 2, 3, 5]),  # 2 and 4 are equally similar: the one further down goes
    ],
)
@pytest.mark.parametrize("slot", [torch.zeros(2, 3, 5), torch.full((2, 3, 5), 0.3), *PARALLEL])
def test_vispruner_prefers_the_lower_index_among_equals(ratio: Fraction, index: list[int], slot: torch.Tensor) -> None:
    assert kept(VisPruner(), video(slot[None], saliency=torch.ones(1, 2, 3)), ratio) == index


def test_vispruner_gives_every_slot_its_even_share() -> None:
    tokens = video(noise(5, 2, 2, 3), saliency=torch.arange(20).float().view(5, 2, 2))
    # 2 tokens for 5 slots: floor(2 k / 5) rises at k = 3 and 5, so the third and the fifth slot get one each. None of
    # it is important. By attention, the list is 3, 2, 1, 0; first 3 and 1 go, then 2, whatever the features are.
    assert kept(VisPruner(), tokens, "0.1") == [8, 16]
    # 7 tokens: 1, 1, 2, 1, 2. Of the two, one is important: the last of its slot.
    got = choose(VisPruner(), tokens, "0.35")
    assert torch.bincount(got.index // 4).tolist() == [1, 1, 2, 1, 2]
    assert {11, 19} <= set(got.index.tolist())
    assert (got.counts["important"], got.counts["diverse"]) == (2, 5)


def test_the_important_share_is_a_decimal() -> None:
    tokens = video(noise(1, 1, 200, 3), saliency=noise(1, 1, 200))
    assert int(100 * 0.29) == 28  # as the nearest binary number
    assert choose(VisPruner(important_ratio=0.29), tokens, "0.5").counts["important"] == 29
    by_attention = tokens.evidence["saliency"].tensor().flatten().argsort(descending=True)
    assert kept(VisPruner(important_ratio=1.0), tokens, "0.5") == by_attention[:100].sort().values.tolist()
    assert choose(VisPruner(important_ratio=0.0), tokens, "0.5").counts["diverse"] == 100


def test_vispruner_names_a_token_that_is_not_finite() -> None:
    features = noise(2, 2, 3, 4)
    features[1, 0, 2, 3] = math.nan
    with pytest.raises(StsimdiffError, match="slot 1, row 0, column 2"):
        choose(VisPruner(), video(features, saliency=torch.ones(2, 2, 3)), "0.5")


# --- VidCom2 ----------------------------------------------------------------------------------------------------------


def published_vidcom2(
    frames: list[list[list[float]]], ratio: float, temperature: float
) -> tuple[list[float], list[list[int]]]:
    """In plain lists: the scale of every frame before it is clamped, and its tokens, the most distinct first."""
    flat = [token for frame in frames for token in frame]
    variance = []
    for channel in range(len(flat[0])):
        values = [token[channel] for token in flat]
        mean = math.fsum(values) / len(values)
        variance.append(math.fsum((value - mean) ** 2 for value in values) / len(values))
    low = sorted(range(len(variance)), key=lambda c: variance[c])[: int(len(variance) * 0.5)]

    def unit(token: list[float]) -> list[float]:
        part = [token[c] for c in low]
        norm = math.hypot(*part)
        return [value / norm for value in part]

    def centre(vectors: list[list[float]]) -> list[float]:
        return [math.fsum(column) / len(vectors) for column in zip(*vectors, strict=True)]

    def similarity(x: list[float], y: list[float]) -> float:
        distance = math.fsum((a - b) ** 2 for a, b in zip(x, y, strict=True))
        return math.fsum(math.exp(-distance / (2 * alpha)) for alpha in (0.125, 0.25, 0.5, 1, 2))

    units = [[unit(token) for token in frame] for frame in frames]
    whole = centre([x for frame in units for x in frame])
    to_video = [[similarity(x, whole) for x in frame] for frame in units]
    to_frame = [[similarity(x, centre(frame)) for x in frame] for frame in units]
    s = [-math.fsum(v) / len(v) for v in to_video]
    weight = [math.exp((one - max(s)) / temperature) for one in s]
    p = [one / math.fsum(weight) for one in weight]
    scale = [ratio * (1 + one - math.fsum(p) / len(p)) for one in p]
    total = [[a + b for a, b in zip(v, f, strict=True)] for v, f in zip(to_video, to_frame, strict=True)]
    return scale, [sorted(range(len(frame)), key=lambda i, frame=frame: frame[i]) for frame in total]


@pytest.mark.parametrize("temperature", [0.01, 0.05, 0.5])
def test_vidcom2_is_the_published_algorithm_where_that_meets_the_budget(temperature: float) -> None:
    met = 0
    for seed, (slots, size, ratio) in itertools.product(range(8), [(4, 8, "0.5"), (3, 10, "0.3"), (5, 6, "0.6")]):
        features = noise(slots, 1, size, 12, seed=seed) * noise(1, 1, 1, 12, seed=seed + 50).exp() + 0.5
        scale, order = published_vidcom2(features[:, 0].double().tolist(), float(ratio), temperature)
        index = choose(VidCom2(temperature=temperature), video(features), ratio).index
        share = torch.bincount(index // size, minlength=slots).tolist()
        for t in range(slots):  # whatever the shares, a frame keeps its most distinct tokens
            assert (index[index // size == t] % size).tolist() == sorted(order[t][: share[t]])
        count = [round(one * size) for one in scale]
        if sum(count) == sum(share) and max(scale) <= 1 and min(count) >= 1:
            assert share == count
            met += 1
    assert met >= 8


# Two frames of four tokens. Channels 0 and 1 hold (1, 0), but (0, 1) in token 3; they vary by 7/64. Channels 2 and 3
# are 0 but for token 0, and vary by 100 x 7/64, so they are left out and token 0 is like its neighbours.
# Means: frame 0 (3/4, 1/4), frame 1 (1, 0), video (7/8, 1/8). Squared distances d to the video: 2/64 and 98/64.
# v = e^-4d + e^-2d + e^-d + e^-d/2 + e^-d/4, so 4.7678 and 1.4122. Its means over the frames are 3.9289 and 4.7678, 84
# temperatures apart, so p = (1, 0) and the weights are 3/2 and 1/2.
OUTLIER = torch.tensor([[[1, 0, 10, 10], [1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]], [[1, 0, 0, 0]] * 4])


@pytest.mark.parametrize(
    ("budget", "index"),
    [
        (2, [3, 4]),  # 3/2 and 1/2, but every frame gets one: 1 and 1
        (3, [0, 3, 4]),  # 9/4 and 3/4, at least one: 2 and 1
        (4, [0, 1, 3, 4]),  # 3 and 1; equals by index
        (5, [0, 1, 2, 3, 4]),  # 15/4 and 5/4: the largest remainder is the first frame's: 4 and 1
        (6, [0, 1, 2, 3, 4, 5]),  # 9/2 and 3/2, but a frame has 4: 4 and 2
        (1, [3]),  # 3/4 and 1/4: 1 and 0
    ],
)
def test_vidcom2_keeps_what_stands_out_and_more_of_a_frame_that_stands_out(budget: int, index: list[int]) -> None:
    got = choose(VidCom2(), video(OUTLIER.float()[:, None]), Fraction(budget, 8))
    assert got.index.tolist() == index
    per_frame = [sum(i < 4 for i in index), sum(i >= 4 for i in index)]
    assert (got.counts["fewest_in_slot"], got.counts["most_in_slot"]) == (min(per_frame), max(per_frame))


def test_a_higher_temperature_evens_the_frames_out() -> None:
    # 0.8389 = 3.9289 to 4.7678; with a temperature of 0.8389 / ln 3, p = (3/4, 1/4), the weights are 5/4 and 3/4, and 5
    # tokens are shared as 25/8 and 15/8: 3 and 2. With 0.01 they are 4 and 1.
    got = kept(VidCom2(temperature=0.8389 / math.log(3)), video(OUTLIER.float()[:, None]), Fraction(5, 8))
    assert got == [0, 1, 3, 4, 5]


def test_the_similarity_is_the_sum_of_five_gaussians() -> None:
    x = torch.tensor([[1, 0], [0, 1], [0.875, 0.125]], dtype=torch.float64)
    got = gaussian(x, torch.tensor([0.875, 0.125], dtype=torch.float64))
    assert got.tolist() == pytest.approx([4.7678, 1.4122, 5], abs=2e-4)


def test_tokens_are_compared_by_direction() -> None:
    features = noise(3, 2, 4, 8)
    length = 2.0 ** torch.arange(24).remainder(2).view(3, 2, 4, 1)
    whole = VidCom2(channel_ratio=1.0)  # so that the choice of channels is the same
    assert kept(whole, video(features), "0.4") == kept(whole, video(features * length), "0.4")


def test_the_least_varying_channels_are_taken() -> None:
    # Variances over three tokens: 1e-8 x 2/3, 0, 8/3, 0 (that of a constant is exactly 0, however it is rounded), 2/3.
    x = torch.tensor([[0, 0.1, 0, 8, 0], [1e-4, 0.1, 2, 8, 1], [2e-4, 0.1, 4, 8, 2]]).view(3, 1, 1, 5)
    assert [least_varying(x, count).tolist() for count in (1, 2, 3, 4)] == [[1], [1, 3], [0, 1, 3], [0, 1, 3, 4]]
    # The same over 49 tokens, where the sum of 49 times 0.1 / 49 is not 0.1: channels 0 and 1 are equally constant.
    x = torch.stack([torch.full((49,), 0.1), torch.zeros(49), torch.arange(49.0)], dim=1).view(49, 1, 1, 3)
    assert least_varying(x, 1).tolist() == [0]
    # Equal up to rounding: the lower channel. float32 holds 0.1 and 0.3 inexactly; 3 x 0.1 is not 0.3.
    near = torch.tensor([[0.3, 0.0, 0.1], [0.6, 0.3, 0.4]]).view(2, 1, 1, 3)
    assert least_varying(near, 1).tolist() == [0]
    assert least_varying(near[..., [2, 0, 1]], 2).tolist() == [0, 1]


def test_at_least_one_channel_is_compared() -> None:
    features = torch.tensor([1.0, 1, -1, 1]).view(1, 1, 4, 1)
    assert kept(VidCom2(), video(features), "0.25") == [2]
    # floor(5 / 2) = 2 of 5: the constant ones, so that all are equal; a third would tell token 3 from the others.
    features = torch.zeros(1, 1, 4, 5)
    features[0, 0, 3, 2:] = torch.tensor([1.0, 2, 3])
    features[..., :2] = 1
    assert kept(VidCom2(), video(features), "0.25") == [0]
    assert kept(VidCom2(channel_ratio=0.6), video(features), "0.25") == [3]


def test_vidcom2_scores_the_picture_and_never_its_newlines() -> None:
    # A column of newlines, far from everything else. What is kept of the picture is what is kept without the column.
    picture = noise(4, 3, 5, 12, seed=3)
    tokens = video(torch.cat([picture, torch.full((4, 3, 1, 12), 50.0)], dim=2))
    with_column = replace(tokens, grid=replace(tokens.grid, coverage=Coverage(blank_columns=1)))
    for budget in (5, 17, 36, 60):
        got = kept(VidCom2(), with_column, Fraction(budget, 72))
        alone = kept(VidCom2(), video(picture), Fraction(budget, 60))
        assert [i // 6 * 5 + i % 6 for i in got] == alone
        assert all(i % 6 < 5 for i in got)
    # With 62 of 72, all 60 cells of the picture and the first two newlines.
    got = kept(VidCom2(), with_column, Fraction(62, 72))
    assert [i for i in got if i % 6 == 5] == [5, 11]
    assert kept(VidCom2(), with_column, "1") == list(range(72))


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_vidcom2_shares_evenly_and_takes_the_lower_index_where_all_is_equal(value: float) -> None:
    tokens = video(torch.full((3, 2, 2, 6), value))
    assert kept(VidCom2(), tokens, "0.5") == [0, 1, 4, 5, 8, 9]
    assert kept(VidCom2(), tokens, Fraction(2, 12)) == [0, 4]  # fewer tokens than frames
    assert kept(VidCom2(), video(torch.full((1, 2, 2, 6), value)), "0.5") == [0, 1]


def test_a_zero_token_stands_out() -> None:
    features = torch.ones(1, 1, 5, 4)
    features[0, 0, 3] = 0
    assert kept(VidCom2(), video(features), "0.2") == [3]


@pytest.mark.parametrize(
    ("weight", "total", "size", "share"),
    [
        ([1.5, 0.5], 4, 4, [3, 1]),
        ([1.25, 0.95, 0.8], 10, 10, [4, 3, 3]),  # 4.17, 3.17, 2.67
        ([1, 1, 1], 4, 9, [2, 1, 1]),  # ties: the earlier
        ([1 - 1e-12, 1, 1], 4, 9, [2, 1, 1]),  # rounding does not choose
        ([1.5, 0.5], 6, 4, [4, 2]),  # 4.5 and 1.5, but only 4 fit
        ([1.6, 1.4, 0.5, 0.5], 7, 2, [2, 2, 2, 1]),  # 2.8, 2.45, 0.875, 0.875; then 3 for two
        ([1.5, 1.5, 0.5, 0.5], 5, 9, [2, 1, 1, 1]),  # 1.5, 1.5, 1, 1; unbounded: 1.875, 1.875, 0.625, 0.625
        ([1.8, 0.8, 0.8, 0.8, 0.8], 5, 9, [1, 1, 1, 1, 1]),  # 1.8 and 0.8 each would be 2, 1, 1, 1, 0
        ([0.9, 1.3, 0.9, 0.9], 2, 9, [1, 1, 0, 0]),  # fewer than frames: 0.45, 0.65, 0.45, 0.45
        ([1.5, 0.5], 8, 4, [4, 4]),
        ([1], 3, 3, [3]),
    ],
)
def test_shares_are_in_proportion_within_bounds(weight: list[float], total: int, size: int, share: list[int]) -> None:
    assert bounded_shares(torch.tensor(weight, dtype=torch.float64), total, size).tolist() == share


def test_shares_add_up_and_stay_within_bounds_for_any_weights() -> None:
    chance = torch.Generator().manual_seed(0)
    for slots in (1, 2, 3, 7, 40):
        for size in (1, 2, 5, 30):
            for total in range(1, slots * size + 1, 1 + slots * size // 25):
                p = torch.randperm(slots, generator=chance).double() + 1
                p = p / p.sum()
                share = bounded_shares(1 + p - 1 / slots, total, size)
                assert int(share.sum()) == total
                assert int(total >= slots) <= int(share.min()) <= int(share.max()) <= size
                assert bool((share[p.argsort()].diff() >= 0).all())  # a more distinct frame never gets less


@pytest.mark.parametrize("slot", [0, 1])
def test_vidcom2_names_a_token_that_is_not_finite(slot: int) -> None:
    features = noise(2, 2, 3, 4)
    features[slot, 0, 2, 3] = math.inf
    with pytest.raises(StsimdiffError, match=f"slot {slot}, row 0, column 2"):
        choose(VidCom2(), video(features), "0.5")


# --- Parameters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_an_important_share_outside_0_to_1_is_refused(value: float) -> None:
    with pytest.raises(RequestError, match=f"important_ratio must be between 0 and 1, got {value}"):
        VisPruner(important_ratio=value)


@pytest.mark.parametrize("value", [0.0, 1.1, math.nan])
def test_a_channel_share_outside_0_to_1_is_refused(value: float) -> None:
    with pytest.raises(RequestError, match=f"channel_ratio must be above 0 and at most 1, got {value}"):
        VidCom2(channel_ratio=value)


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_a_temperature_that_is_not_above_0_is_refused(value: float) -> None:
    with pytest.raises(RequestError, match=f"temperature must be above 0, got {value}"):
        VidCom2(temperature=value)


def test_the_lowest_temperature_gives_numbers() -> None:
    assert len(kept(VidCom2(temperature=5e-324), video(noise(3, 2, 4, 8)), "0.4")) == 10
