"""FlashVID, FastVID, FLoC and downsampling: small cases worked out by hand, and the algorithms written out slowly."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from stsimdiff_cli.errors import RequestError, StsimdiffError
from stsimdiff_cli.graph.clusters import density_peaks, segments, squared_distances
from stsimdiff_cli.methods import floc
from stsimdiff_cli.methods.base import Method, slot_budgets
from stsimdiff_cli.methods.downsample import Downsample, cells
from stsimdiff_cli.methods.fastvid import FastVID
from stsimdiff_cli.methods.flashvid import FlashVID
from stsimdiff_cli.methods.floc import FLoC, representatives
from stsimdiff_cli.ratio import parse_ratio
from stsimdiff_cli.records import Coverage, Selection, VideoTokens
from stsimdiff_cli.storage.file_features import FileFeatures
from stsimdiff_cli.storage.reading import StoredVideo
from stsimdiff_cli.storage.writing import save_tokens
from tests.support.references import merging
from tests.support.references.st_simdiff import video
from tests.support.tokens import make_tokens as tiny_tokens

RATIOS = ["0.03", "0.1", "0.25", "0.5", "0.8", "0.97"]


def choose(method: Method, tokens: VideoTokens, ratio: str | Fraction) -> Selection:
    return method.select(tokens, parse_ratio(ratio), None, lambda step: None)  # none of them may touch the LLM


def made_up(content: str, seed: int, shape: tuple[int, int, int] = (10, 3, 4), width: int = 6) -> VideoTokens:
    """Noise, or scenes of four slots whose tokens move one column to the right in every slot."""
    chance = torch.Generator().manual_seed(seed)
    x = torch.randn((*shape, width), generator=chance)
    if content == "scenes":
        scene = torch.randn((*shape, width), generator=chance) + 2 * torch.randn(
            (shape[0], 1, 1, width), generator=chance
        )
        x = torch.stack([(scene[t // 4] + 0.3 * x[t]).roll(t % 4, 1) for t in range(shape[0])])
    return video(x, saliency=torch.rand(shape, generator=chance))


def as_lists(tokens: VideoTokens) -> tuple[list, list]:
    """The slots and the saliency of a video, for the references."""
    return (
        tokens.features.tensor().double().flatten(1, 2).tolist(),
        tokens.evidence["saliency"].tensor().double().flatten(1).tolist(),
    )


def assert_is(got: Selection, expected: merging.Kept) -> None:
    assert got.index.tolist() == sorted(expected)
    assert got.features is not None
    wanted = torch.tensor([expected[i] for i in sorted(expected)])
    torch.testing.assert_close(got.features, wanted, rtol=1e-5, atol=1e-5)  # the library merges in float32


def at_angles(*degrees: float) -> torch.Tensor:
    """Unit vectors (n, 2): the cosine of two is the cosine of the angle between them."""
    angle = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angle.cos(), angle.sin()], dim=1)


# --- Segments and density peaks ---------------------------------------------------------------------------------------

# Means of slots at 0, 10, 50, 55, 57 degrees: cosines 0.985, 0.766, 0.996, 0.999.
TURNING = at_angles(0, 10, 50, 55, 57).view(5, 1, 1, 2)


@pytest.mark.parametrize(
    ("threshold", "least", "lengths"),
    [
        (0.9, 1, [2, 3]),
        (-1, 1, [5]),
        (0.99, 1, [1, 1, 3]),
        (0.9, 2, [2, 3]),
        (0.9, 3, [1, 1, 3]),  # the least similar place that is left
        (0.9, 4, [1, 1, 1, 2]),
        (0.9, 9, [1, 1, 1, 1, 1]),
        (1, 1, [1, 1, 1, 1, 1]),
    ],
)
def test_a_video_is_cut_where_slots_differ_and_then_where_they_are_least_alike(threshold, least, lengths):
    assert [len(span) for span in segments(TURNING, threshold, least)] == lengths


def test_equal_places_are_cut_from_the_first():
    still = torch.ones((5, 1, 2, 3))
    assert [len(span) for span in segments(still, 0.9, 3)] == [1, 1, 3]
    assert [len(span) for span in segments(still, 1, 1)] == [5]  # a cosine at the threshold is not below it


def test_peaks_are_dense_and_far_from_what_is_denser():
    # Two heaps on a line, at 0 and at 10; the second is looser. One peak is in the first, two are one in each.
    x = torch.tensor([[0.0], [0.1], [0.2], [10.0], [10.3], [10.6]])
    squares = squared_distances(x, x, 1.0)
    assert density_peaks(squares, 3, 1).tolist() == [1]
    assert density_peaks(squares, 3, 2).tolist() == [1, 4]


def test_low_densities_still_have_an_order():
    x = 1e3 * torch.tensor([[0.0], [0.1], [0.2], [10.0], [10.3], [10.6]])
    assert density_peaks(squared_distances(x, x, 1.0), 3, 1).tolist() == [1]  # exp(-1e4) is 0


@pytest.mark.parametrize("seed", range(20))
def test_peaks_are_those_of_a_plain_loop(seed):
    x = torch.randn((12, 5), generator=torch.Generator().manual_seed(seed))
    for neighbors, count in ((1, 1), (2, 2), (4, 3), (7, 7)):
        got = density_peaks(squared_distances(x, x, 0.7), neighbors, count).sort().values.tolist()
        assert got == merging.peaks(x.double().tolist(), neighbors, count, 0.7)


# --- FlashVID ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("content", ["noise", "scenes"])
@pytest.mark.parametrize(
    ("method", "options"),
    [
        (FlashVID(), {}),
        (FlashVID(segments=2, aggregate="published"), {"least": 2, "published": True}),
        (FlashVID(alpha=0.3, threshold=0.2, segments=1), {"alpha": "0.3", "threshold": 0.2, "least": 1}),
        (FlashVID(alpha=0, threshold=0.5, segments=3), {"alpha": "0", "threshold": 0.5, "least": 3}),
        (FlashVID(alpha=1, relevance=False), {"alpha": "1", "relevance": False}),
    ],
    ids=str,
)
def test_flashvid_is_the_slow_one(method, options, content, seed, ratio):
    tokens = made_up(content, seed)
    budget = slot_budgets(tokens, parse_ratio(ratio))
    assert_is(choose(method, tokens, ratio), merging.flashvid(*as_lists(tokens), budget, **options))


# Three slots of three tokens, in one segment. The token at 0 degrees moves through the columns 0, 1, 2.
MOVING = torch.stack([at_angles(0, 120, 240), at_angles(120, 0, 240), at_angles(120, 240, 0)]).view(3, 1, 3, 2)


def test_trees_follow_what_moves_and_stand_where_they_begin():
    got = choose(FlashVID(alpha=0, segments=1, cut=-1), video(MOVING.float()), "0.3")
    # All links are there: three trees of three, all with their roots in the first slot.
    assert got.index.tolist() == [0, 1, 2]
    assert got.features is not None
    torch.testing.assert_close(got.features, at_angles(0, 120, 240).float())


def test_the_published_aggregate_grows_with_the_length_of_a_tree():
    got = choose(FlashVID(alpha=0, segments=1, cut=-1, aggregate="published"), video(MOVING.float()), "0.3")
    assert got.features is not None
    torch.testing.assert_close(got.features, 1.5 * at_angles(0, 120, 240).float())  # 3 tokens, 1 + 1 direct child


def test_the_most_similar_links_stay_where_the_budget_asks_for_more_trees():
    # Two slots of two tokens: links of 10 and of 20 degrees. Three tokens may stay, so only the first is merged.
    tokens = video(torch.stack([at_angles(0, 90), at_angles(10, 110)]).view(2, 1, 2, 2).float())
    got = choose(FlashVID(alpha=0, segments=1, cut=-1), tokens, "0.75")
    assert got.index.tolist() == [0, 1, 3]
    assert got.features is not None
    torch.testing.assert_close(got.features[0], at_angles(0, 10).mean(0).float())


def test_adts_takes_tokens_that_are_salient_and_unlike_each_other():
    # One slot. Tokens 0 and 1 are alike; 1 is more salient. 2 is far from both but hardly salient, 3 is both.
    tokens = video(at_angles(0, 1, 180, 90).view(1, 1, 4, 2).float(), saliency=torch.tensor([[[0.4, 0.5, 0.01, 0.3]]]))
    method = FlashVID(alpha=1, relevance=False)
    assert choose(method, tokens, "0.25").index.tolist() == [3]
    assert choose(method, tokens, "0.5").index.tolist() == [1, 3]


def test_flashvid_needs_saliency_only_for_adts():
    assert FlashVID().needs == {"saliency"}
    assert FlashVID(alpha=0).needs == set()


@pytest.mark.parametrize(
    "wrong", [{"alpha": 1.1}, {"alpha": math.nan}, {"threshold": 2.0}, {"cut": -2.0}, {"segments": 0}]
)
def test_flashvid_refuses_parameters_that_make_no_sense(wrong):
    with pytest.raises(RequestError, match=f"{next(iter(wrong))} must be"):
        FlashVID(**wrong)


# --- FastVID ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("content", ["noise", "scenes"])
@pytest.mark.parametrize(
    ("method", "options"),
    [
        (FastVID(), {}),
        (FastVID(segments=1, every=3), {"least": 1, "every": 3}),
        (FastVID(context=0.9, beta=0.1, segments=2), {"context": "0.9", "beta": 0.1, "least": 2}),
        (FastVID(context=0), {"context": "0"}),
    ],
    ids=str,
)
def test_fastvid_is_the_slow_one(method, options, content, seed, ratio):
    tokens = made_up(content, seed)
    budget = slot_budgets(tokens, parse_ratio(ratio))
    assert_is(choose(method, tokens, ratio), merging.fastvid(*as_lists(tokens), budget, **options))


def test_anchors_stand_in_the_last_slot_of_a_segment_and_in_every_fourth_before_it():
    tokens = made_up("noise", 0, (6, 3, 4))
    got = choose(FastVID(context=1, segments=1, cut=-1), tokens, "0.2")  # 15 of 72
    assert (got.index // 12).unique().tolist() == [1, 5]
    assert got.counts["merged_into"] == 15
    assert got.counts["segments"] == 1


def test_an_anchor_keeps_at_least_beta_of_itself():
    # One slot, all tokens alike but for their length: one anchor, to which all four are nearest.
    tokens = video(torch.tensor([1.0, 2.0, 3.0, 6.0]).view(1, 1, 4, 1), saliency=torch.zeros(1, 1, 4))
    got = choose(FastVID(context=1), tokens, "0.25")
    own = float(tokens.features.tensor().flatten()[got.index])
    assert got.features is not None
    torch.testing.assert_close(float(got.features), 0.6 * own + 0.4 * 3, rtol=1e-6, atol=0)
    low = choose(FastVID(context=1, beta=0), tokens, "0.25").features
    assert low is not None
    torch.testing.assert_close(float(low), 0.2 * own + 0.8 * 3, rtol=1e-6, atol=0)


@pytest.mark.parametrize("wrong", [{"context": 1.5}, {"beta": -0.1}, {"cut": 3.0}, {"every": 0}, {"segments": 0}])
def test_fastvid_refuses_parameters_that_make_no_sense(wrong):
    with pytest.raises(RequestError, match="must be"):
        FastVID(**wrong)


# --- FLoC -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("content", ["noise", "scenes"])
def test_the_lazy_choice_is_the_greedy_one(content, seed):
    tokens = made_up(content, seed, (3, 3, 4))
    x = tokens.features.tensor().flatten(0, 2)
    unit = x / x.norm(dim=-1, keepdim=True)
    for count in (0, 1, 2, 5, 17, 35, 36):
        assert representatives(unit, count).tolist() == merging.facility_location(x.double().tolist(), count)


def test_one_token_stands_for_what_is_alike():
    # Three heaps of 4, 3 and 1 tokens. The largest is represented first, and the single one before any second.
    x = at_angles(0, 0, 0, 0, 90, 90, 90, 200)
    assert representatives(x, 1).tolist() == [0]
    assert representatives(x, 2).tolist() == [0, 4]
    assert representatives(x, 3).tolist() == [0, 4, 7]
    assert representatives(x, 5).tolist() == [0, 1, 2, 4, 7]  # nothing is gained any more: the lowest


def test_gains_may_be_larger_than_the_sums_they_started_from():
    # Opposite tokens have negative sums at first, and the largest gains once the others are represented.
    x = at_angles(0, 0, 0, 180, 180)
    assert representatives(x, 2).tolist() == [0, 3]


def test_blocks_are_chosen_from_by_themselves():
    tokens = made_up("scenes", 1, (10, 3, 4))
    got = choose(FLoC(block=4), tokens, "0.3")  # 36 of 120 from blocks of 48, 48 and 24 tokens
    assert (got.index // 48).bincount().tolist() == [14, 14, 8]
    assert got.counts["blocks"] == 3
    x = tokens.features.tensor()[4:8].flatten(0, 2)
    expected = merging.facility_location(x.double().tolist(), 14)
    assert [i - 48 for i in got.index.tolist() if 48 <= i < 96] == expected
    assert got.features is None


def test_blocks_are_shorter_where_they_would_hold_too_many_tokens(monkeypatch):
    tokens = made_up("scenes", 1, (10, 3, 4))
    monkeypatch.setattr(floc, "_LARGEST", 50)
    assert choose(FLoC(), tokens, "0.3").index.tolist() == choose(FLoC(block=4), tokens, "0.3").index.tolist()
    monkeypatch.setattr(floc, "_LARGEST", 5)
    assert choose(FLoC(), tokens, "0.3").counts["blocks"] == 10


def test_floc_refuses_a_block_of_nothing():
    with pytest.raises(RequestError, match="block must be at least 1, got 0"):
        FLoC(block=0)


@pytest.mark.parametrize("method", [FLoC(block=3), Downsample()], ids=str)
def test_a_method_that_streams_chooses_from_a_file_what_it_chooses_from_memory(tmp_path, monkeypatch, method):
    tokens = tiny_tokens((10, 4, 5), 32, seed=3, dtype=torch.bfloat16)
    save_tokens(tmp_path / "t", tokens)
    sizes, real = [0], FileFeatures.read

    def read(self, begin, out):
        sizes.append(len(out) if self.name == "features" else 0)
        real(self, begin, out)

    monkeypatch.setattr(FileFeatures, "read", read)
    stored = StoredVideo(tmp_path / "t").tokens(in_memory=False)
    file, memory = (choose(method, source, "0.3") for source in (stored, tokens))
    assert max(sizes) == (3 if isinstance(method, FLoC) else 1), "slots at a time"
    assert torch.equal(file.index, memory.index)
    if memory.features is not None and file.features is not None:
        assert torch.equal(file.features, memory.features)


@pytest.mark.parametrize("method", [FLoC(block=2), Downsample(), FlashVID(), FastVID()], ids=str)
def test_a_token_that_is_not_finite_is_named(method):
    tokens = made_up("noise", 0)
    tokens.features.tensor()[7, 1, 2, 3] = math.nan
    with pytest.raises(StsimdiffError, match="slot 7, row 1, column 2"):
        choose(method, tokens, "0.5")


# --- Downsample -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blank", [0, 1, 2])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 7), (7, 1), (3, 4), (4, 3), (14, 14), (14, 15), (5, 9)])
def test_blocks_cover_every_cell_once(rows, columns, blank):
    blank = min(blank, columns - 1)
    for count in range(1, rows * columns + 1):
        blocks = cells(rows, columns, count, blank)
        assert len(blocks) == count
        covered = torch.zeros((rows, columns), dtype=torch.int64)
        for a, b, c, d in blocks:
            assert a < b and c < d
            assert (d <= columns - blank) or (c >= columns - blank), "the picture is not mixed with what shows none"
            covered[a:b, c:d] += 1
        assert bool((covered[:, : columns - blank] == 1).all())
        assert int(covered.max()) == 1
        middle = [((a + b - 1) // 2 * columns + (c + d - 1) // 2) for a, b, c, d in blocks]
        assert middle == sorted(set(middle))


def test_a_quarter_of_the_tokens_is_a_mean_of_2_by_2():
    x = torch.arange(4 * 6, dtype=torch.float32).view(1, 4, 6, 1)
    got = choose(Downsample(), video(x), "0.25")
    assert got.features is not None
    pooled = torch.nn.functional.avg_pool2d(x[..., 0], 2).flatten()
    torch.testing.assert_close(got.features.flatten(), pooled)
    assert got.index.tolist() == [0, 2, 4, 12, 14, 16]  # the upper left of the four in the middle


def test_a_share_that_is_no_rectangle_makes_some_bands_richer():
    assert cells(4, 4, 5) == [(0, 2, 0, 2), (0, 2, 2, 4), (2, 4, 0, 1), (2, 4, 1, 2), (2, 4, 2, 4)]


def test_newlines_stay_newlines():
    x = torch.arange(4 * 5, dtype=torch.float32).view(1, 4, 5, 1)
    x[..., -1, :] = 100
    tokens = video(x)
    tokens = VideoTokens(replace(tokens.grid, coverage=Coverage(blank_columns=1)), tokens.features)
    got = choose(Downsample(), tokens, "0.3")  # 6: two bands of two blocks and a newline
    assert got.features is not None
    assert got.index.tolist() == [0, 2, 4, 10, 12, 14]
    torch.testing.assert_close(got.features.flatten(), torch.tensor([3.0, 5, 100, 13, 15, 100]))
    alone = choose(Downsample(), tokens, "0.05").features
    assert alone is not None
    torch.testing.assert_close(alone.flatten(), x[..., :4, :].mean().view(1))


def test_slots_without_a_share_keep_nothing():
    tokens = made_up("noise", 0, (4, 2, 2))
    got = choose(Downsample(), tokens, "0.1")  # 2 tokens of 4 slots
    assert (got.index // 4).tolist() == [1, 3]
    assert got.features is not None
    torch.testing.assert_close(got.features, tokens.features.tensor()[[1, 3]].mean((1, 2)))
