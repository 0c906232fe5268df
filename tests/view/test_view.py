"""Pictures of what was kept: the numbers behind them, and cells that sit on the pixels that they stand for."""

from __future__ import annotations

import dataclasses
import json
import shutil
import struct
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

import stsimdiff_cli as st
from stsimdiff_cli.cli.app import main
from stsimdiff_cli.errors import FileFormatError, RequestError
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.plotting import drawn
from stsimdiff_cli.records import Coverage, Layout, ModelRef, Sizing, Source, TokenGrid
from stsimdiff_cli.video import Sampling
from stsimdiff_cli.view import blocks, frames, geometry, page, paint
from stsimdiff_cli.view.sheet import chosen_slots, tile_columns
from stsimdiff_cli.view.timeline import draw_timeline, even_ticks, event_labels
from stsimdiff_cli.view.token_map import DROPPED, UNKNOWN, TokenMap, read_token_map, with_marks, with_one_change
from tests.support.checkpoints import CHECKPOINTS
from tests.support.clip_factory import SAMPLES, render


def grid(shape=(3, 2, 4), size=(64, 32), coverage=None) -> TokenGrid:
    seconds = tuple(0.5 * t for t in range(shape[0]))
    source = Source("clip.mp4", 1, "0", 1.5, 2.0, 3, *size, "pyav")
    model = ModelRef("model", "family", None, "f")
    return TokenGrid(shape, 8, seconds, Layout(), model, source, coverage or Coverage())


def map_of(kind: list, community: list | None = None, **more) -> TokenMap:
    cells = np.array(kind, np.int8)
    labels = np.full(cells.shape, UNKNOWN, np.int32) if community is None else np.array(community, np.int32)
    given = {"importance": None, "centrality": None, "change": None, "regions": True} | more
    shape = cells.shape
    return TokenMap("c.safetensors", grid(shape), {"name": "m", "ratio": "0.5"}, cells, labels, **given)


KINDS = [[[1, -1], [-1, -1]], [[2, 3], [-1, 0]], [[-1, -1], [-1, -1]]]


@pytest.fixture(scope="module")
def flash(tmp_path_factory) -> Path:
    """A folder with flash.mp4, its tokens, and compressed files of ratio 0.3 (kept) and of another method (even)."""
    folder = tmp_path_factory.mktemp("flash")
    shutil.copy(SAMPLES / "flash.mp4", folder)
    tokens = st.encode_video(folder / "flash.mp4", sampling=Sampling(frames=32))
    st.save_tokens(folder / "tokens", tokens)
    st.save_compressed(folder / "kept", st.compress_tokens(tokens, "0.3", "st-simdiff"))
    st.save_compressed(folder / "even", st.compress_tokens(tokens, "0.3", "uniform"))
    return folder


def run(capsys, *args) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([str(arg) for arg in args])
    out, err = capsys.readouterr()
    return code, out, err


# --- names from elsewhere -------------------------------------------------------------------------------------------


NAMES = [
    "\udcff.mp4",
    "\ud800.mp4",
    "\x1b[31mred\x1b[0m",
    "\u202egnp",
    "$\\frac$",
    "$x^$",
    "[/]",
    "é" * 300,
    "</script>",
]


@pytest.mark.parametrize("name", [name for name in NAMES if "/" not in name])
def test_a_name_from_elsewhere_is_shown_and_obeyed_nowhere(flash, tmp_path, capsys, name):
    video = st.load(flash / "kept")
    source = dataclasses.replace(video.grid.source, name=name)
    model = dataclasses.replace(video.grid.model, id=name)
    grid_ = dataclasses.replace(video.grid, source=source, model=model)
    st.save_compressed(tmp_path / "c", dataclasses.replace(video, grid=grid_))
    for args in (
        ("inspect", tmp_path / "c"),
        ("inspect", tmp_path / "c", "--json"),
        ("view", tmp_path / "c", "-o", tmp_path / "page.html"),
    ):
        code, out, err = run(capsys, *args)
        assert code == 0, err
        assert not any(c in "\x1b\u202e" or "\ud800" <= c <= "\udfff" for c in out + err)
    assert json.loads(run(capsys, "inspect", tmp_path / "c", "--json")[1])["source"]["name"] == name
    (tmp_path / "page.html").read_text("utf-8")


def test_a_sheet_takes_names_for_text_and_is_no_longer_than_eight_widths(flash, tmp_path, capsys):
    video = st.load(flash / "kept")
    source = dataclasses.replace(video.grid.source, name="$\\frac$ \x1b", width=1, height=65536)
    model = dataclasses.replace(video.grid.model, id="$x^$")
    grid_ = dataclasses.replace(video.grid, source=source, model=model)
    st.save_compressed(tmp_path / "c", dataclasses.replace(video, grid=grid_))
    code, _, err = run(capsys, "view", tmp_path / "c", "-o", tmp_path / "s.png", "--slots", "1")
    assert code == 0, err
    width, height = struct.unpack(">II", (tmp_path / "s.png").read_bytes()[16:24])
    assert height < 4 * width


def test_of_two_files_of_the_same_tokens_one_change_signal_serves_both(flash):
    kept, even = read_token_map(flash / "kept"), read_token_map(flash / "even")
    assert even.change is None
    assert with_one_change([even, kept])[0].change.tolist() == kept.change.tolist()
    other = dataclasses.replace(even, grid=dataclasses.replace(even.grid, model=ModelRef("m", "f", None, "other")))
    assert with_one_change([other, kept])[0].change is None


@pytest.mark.parametrize("path", ["../clip.mp4", "/etc/passwd", "..", ""])
def test_a_video_is_looked_for_by_its_name_alone(tmp_path, path):
    folder = tmp_path / "files"
    folder.mkdir()
    shutil.copy(SAMPLES / "flash.mp4", tmp_path / "clip.mp4")
    size = (tmp_path / "clip.mp4").stat().st_size
    source = Source(path, size, frames.checksum_of(tmp_path / "clip.mp4"), 1.5, 2.0, 3, 8, 8, "pyav")
    assert frames.find_video(source, None, folder / "c").path is None
    assert frames.find_video(dataclasses.replace(source, name="clip.mp4"), None, tmp_path / "c").path is not None


def test_a_timeline_of_many_slots_is_one_shape_for_each_kind():
    from stsimdiff_cli.plotting import drawn
    from stsimdiff_cli.view.timeline import MOST_BARS, MOST_LABELS, draw_timeline

    for slots in (MOST_BARS, MOST_BARS + 1):
        token_map = map_of([[[1, 2]]] * slots)
        with drawn(8, 3, 50) as figure:
            axes = figure.add_axes((0.1, 0.3, 0.8, 0.6))
            draw_timeline(axes, token_map, [])
            assert len(axes.patches) == (2 * slots if slots <= MOST_BARS else 0)
            assert len(axes.texts) <= MOST_LABELS


# --- token map ------------------------------------------------------------------------------------------------------


def test_facts_are_those_of_the_file(flash):
    video, token_map = st.load(flash / "kept"), read_token_map(flash / "kept")
    index = video.index.numpy()
    assert np.flatnonzero(token_map.kept).tolist() == index.tolist()
    assert token_map.kind.reshape(-1)[index].tolist() == video.kind.tolist()
    assert token_map.community.reshape(-1)[index].tolist() == video.community.tolist()
    assert token_map.importance.reshape(-1)[index].tolist() == video.importance.tolist()
    assert (
        np.isnan(token_map.importance[~token_map.kept]).all() and np.isnan(token_map.centrality[~token_map.kept]).all()
    )


def test_the_change_signal_is_the_mean_temporal_dissimilarity(flash):
    x = st.load(flash / "tokens").features.tensor().double()
    x = x / x.norm(dim=-1, keepdim=True)
    expected = [0.0] + [1 - float((x[t] * x[t - 1]).sum(-1).mean()) for t in range(1, len(x))]
    assert read_token_map(flash / "kept").change.tolist() == pytest.approx(expected, abs=1e-6)
    assert read_token_map(flash / "even", flash / "tokens").change.tolist() == pytest.approx(expected, abs=1e-6)
    assert read_token_map(flash / "even").change is None


def test_every_token_has_a_region_and_regions_have_the_counted_number(flash):
    video, token_map = st.load(flash / "kept"), read_token_map(flash / "kept")
    labels, sizes = np.unique(token_map.community, return_counts=True)
    assert labels.tolist() == list(range(video.counts["communities"]))
    assert sizes.max() == video.counts["largest_community"] and sizes.sum() == token_map.grid.tokens


@pytest.mark.parametrize("split", ["time", "space"])
def test_pieces_of_a_community_are_one_again_as_if_it_had_not_been_cut(flash, tmp_path, split):
    tokens = st.load(flash / "tokens")
    for name, cut in (("cut", f"split={split}"), ("uncut", "max_community=none")):
        st.save_compressed(
            tmp_path / name, st.compress_tokens(tokens, "0.3", f"st-simdiff:importance=centrality,{cut}")
        )
    cut, uncut = (read_token_map(tmp_path / name) for name in ("cut", "uncut"))
    pairs = set(zip(cut.whole.flatten().tolist(), uncut.community.flatten().tolist(), strict=True))
    assert len(pairs) == len(np.unique(cut.whole)) == len(np.unique(uncut.community)) < len(np.unique(cut.community))
    assert np.array_equal(uncut.whole, uncut.community) and not uncut.piece.any()
    background = cut.whole_of == cut.whole_of[cut.community[0, 0, 0]]
    assert cut.piece[background].tolist() == list(range(background.sum()))


def test_pieces_that_do_not_fit_the_communities_are_refused(flash, tmp_path):
    video = st.load(flash / "kept")
    traces = video.traces | {"whole_of": video.traces["whole_of"][:-1]}
    st.save_compressed(tmp_path / "short", dataclasses.replace(video, traces=traces))
    with pytest.raises(FileFormatError, match="whole_of does not fit regions"):
        read_token_map(tmp_path / "short")


def test_centrality_is_the_mean_similarity_to_the_rest_of_the_community(flash):
    token_map = read_token_map(flash / "kept")
    x = st.load(flash / "tokens").features.tensor().flatten(0, 2).double()
    x = x / x.norm(dim=-1, keepdim=True)
    labels, centrality = token_map.community.reshape(-1), token_map.centrality.reshape(-1)
    for p in np.flatnonzero(token_map.kept)[::40]:
        others = np.flatnonzero((labels == labels[p]) & (np.arange(len(labels)) != p))
        expected = float((x[others] @ x[p]).mean()) if len(others) else 1.0
        assert centrality[p] == pytest.approx(expected, abs=1e-6)


def test_a_compressed_file_without_traces_reads_as_before(flash, tmp_path):
    video = dataclasses.replace(st.load(flash / "kept"), traces={})
    st.save_compressed(tmp_path / "old", video)
    again, token_map = st.load(tmp_path / "old"), read_token_map(tmp_path / "old")
    assert again.traces == {} and torch.equal(again.index, video.index)
    assert token_map.change is None and token_map.centrality is None and not token_map.regions
    assert (token_map.community[~token_map.kept] == UNKNOWN).all()


def test_counts_per_slot_and_events():
    token_map = map_of(KINDS)
    assert {kind: count.tolist() for kind, count in token_map.per_slot().items()} == {
        1: [1, 0, 0], 2: [0, 1, 0], 3: [0, 1, 0], 0: [0, 1, 0],
    }  # fmt: skip
    assert token_map.events().tolist() == [0, 2, 0]


def test_the_largest_communities_of_a_slot_by_size_then_number():
    token_map = map_of([[[1, 1, 1], [1, 1, 1]]], [[[4, 4, 2], [2, 7, UNKNOWN]]])
    assert token_map.largest(0, 3) == [2, 4]  # 7 is alone
    assert token_map.largest(0, 1) == [2]


# --- geometry -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "shape", "size", "expected"),
    [
        ("qwen2_5_vl", (1, 2, 4), (64, 32), (32, 16, 48, 32)),
        ("llava_next_video", (1, 4, 4), (80, 40), (40, 10, 50, 20)),  # the middle square begins at x = 20
        ("llava_next_video", (1, 4, 4), (40, 80), (20, 30, 30, 40)),
    ],
)
def test_cells_lie_where_the_family_puts_them(tmp_path, family, shape, size, expected):
    coverage = open_family(str(CHECKPOINTS[family](tmp_path))).coverage_of(*size)
    row = 1
    assert geometry.geometry_of(grid(shape, size, coverage)).cell(row, 2, *size) == expected


def test_newlines_stand_for_no_pixels_and_the_rest_for_the_patches():
    coverage = Coverage(right=27 * 14 / 384, bottom=27 * 14 / 384, blank_columns=1)
    cells = geometry.geometry_of(grid((1, 14, 15), (640, 360), coverage))
    assert (cells.rows, cells.columns) == (14, 14)
    assert cells.cell(13, 13, 3840, 3840)[2:] == (3780, 3780)  # 27 patches of 14 on 384 pixels


SQUARES = [("llava_next_video", (80, 40)), ("llava_next_video", (40, 80)), ("llava_onevision", (80, 40))]


@pytest.mark.parametrize(("name", "size"), [*SQUARES, ("internvl", (40, 80))])
def test_a_cell_covers_the_pixels_that_the_family_gives_its_encoder_for_it(tmp_path, name, size):
    """A cell painted white in the frame is white in the same cell of the encoder's square input, and nowhere else."""
    side, (width, height) = 4, size
    family = open_family(str(CHECKPOINTS[name](tmp_path)))
    cells = geometry.geometry_of(grid((1, side, side), size, family.coverage_of(*size)))
    x0, y0, x1, y1 = cells.cell(1, 2, width, height)
    frame = torch.zeros((1, height, width, 3), dtype=torch.uint8)
    frame[:, y0:y1, x0:x1] = 255
    (pixels,) = family.preprocess(frame, Sizing(len(frame)), torch.device("cpu")).values()
    square = pixels.reshape(-1, 3, *pixels.shape[-2:])[0, 0]
    square = (square - square.min()) / (square.max() - square.min())
    brightness = torch.nn.functional.adaptive_avg_pool2d(square[None], side)[0]
    expected = torch.zeros(side, side)
    expected[1, 2] = 1
    assert torch.allclose(brightness, expected, atol=0.25) and int(brightness.argmax()) == side + 2


@pytest.mark.parametrize("name", ["qwen2_5_vl", "llava_next_video"])
def test_the_coverage_of_the_family_is_in_the_file(tmp_path, name):
    family = CHECKPOINTS[name](tmp_path / "model")
    clip = render(tmp_path / "clip.mp4", range(4), size=(80, 40))
    st.save_tokens(tmp_path / "t", st.encode_video(clip, str(family), Sampling(frames=4)))
    expected = Coverage(0.25, 0.0, 0.75, 1.0) if name == "llava_next_video" else Coverage()
    assert st.load(tmp_path / "t").grid.coverage == expected


@pytest.mark.parametrize("size", [(216, 120), (120, 216)])
def test_the_cell_that_changes_is_framed_as_an_event_on_the_pixels_that_change(tmp_path, size):
    width, height = size
    columns, rows = (9, 5) if width > height else (5, 9)
    side, row, column = 24, 2, 1
    y, x = np.mgrid[:height, :width]
    plain = np.stack([90 + x // 4, 80 + y // 4, 110 + 0 * x], -1).astype(np.uint8)

    def picture(number: int) -> np.ndarray:
        made = plain.copy()
        if number >= 4:
            made[row * side : (row + 1) * side, column * side : (column + 1) * side] = (250, 240, 20)
        return made

    clip = tmp_path / "clip.mp4"
    render(clip, range(8), picture=picture, size=size, options={"x264-params": "qp=1"}, pix_fmt="yuv444p")
    tokens = st.encode_video(clip, sampling=Sampling(frames=8))
    assert tokens.grid.shape == (8, rows, columns)
    st.save_compressed(
        tmp_path / "c", st.compress_tokens(tokens, "0.3", "st-simdiff:importance=centrality,tau_diff=p99.9")
    )
    token_map = read_token_map(tmp_path / "c")
    assert np.argwhere(token_map.kept & (token_map.kind & 2 > 0)).tolist() == [[4, row, column]]
    before, after = (frame.astype(int) for _, frame in frames.read_slots(clip, token_map.grid, [3, 4], 1000))
    changed = np.argwhere(np.abs(after - before).max(-1) > 40)
    assert (changed.min(0).tolist(), (changed.max(0) + 1).tolist()) == (
        [row * side, column * side], [(row + 1) * side, (column + 1) * side],
    )  # fmt: skip
    shape = geometry.geometry_of(token_map.grid)
    drawn = paint.kept_picture(after.astype(np.uint8), token_map, 4, shape)
    red = np.argwhere((drawn == paint.KIND_COLOURS[int(token_map.kind[4, row, column])]).all(-1))
    assert (red.min(0).tolist(), red.max(0).tolist()) == (changed.min(0).tolist(), changed.max(0).tolist())


def test_kept_cells_keep_their_pixels_and_dropped_ones_are_dimmed():
    picture = np.full((40, 40, 3), (200, 100, 50), np.uint8)
    token_map = map_of([[[1, -1], [-1, -1]]])
    out = paint.kept_picture(picture, token_map, 0, geometry.geometry_of(token_map.grid))
    assert out[10, 10].tolist() == [200, 100, 50] and out[0, 0].tolist() == list(paint.KIND_COLOURS[1])
    assert out[30, 30].max() < 100 and out[10, 30].max() < 100


def test_regions_that_meet_in_a_slot_differ_in_colour_and_keep_theirs():
    labels = [[[0, 0, 1, 1, 2, 2]], [[1, 1, 3, 3, 4, 4]], [[4, 4, 0, 0, 5, 5]]]
    token_map = map_of(np.ones((3, 1, 6)).tolist(), labels)
    colours = paint.region_colours(token_map, [0, 1, 2])
    for slot in range(3):
        assert len({colours[label] for label in token_map.largest(slot, 3)}) == 3


def test_pieces_have_the_colour_of_their_community_in_turn_darker_with_dark_lines_between_them():
    labels = [[[0, 1, 2, 3]], [[1, 2, 2, 3]]]
    token_map = map_of(np.ones((2, 1, 4)).tolist(), labels, whole_of=np.array([0, 0, 0, 3], np.int32))
    colours = paint.region_colours(token_map, [0, 1])
    assert set(colours) == {0}  # the community of a single cell is not painted
    black = np.zeros((20, 80, 3), np.uint8)
    drawn = paint.region_picture(black, token_map, 0, geometry.geometry_of(token_map.grid), colours).astype(float)
    full, dark, third, single = drawn[10, [10, 30, 50, 70]]
    colour, ground = np.array(colours[0]), 16
    assert full == pytest.approx(ground + 0.6 * colour, abs=1) and third == pytest.approx(full)
    assert dark == pytest.approx(ground + 0.6 * paint.SHADES[1] * colour, abs=1) and single.tolist() == [40] * 3
    assert [drawn[10, x].tolist() for x in (19, 39, 59)] == [[40] * 3, [40] * 3, [255] * 3]
    unknown = dataclasses.replace(token_map, whole_of=None)
    assert set(paint.region_colours(unknown, [1])) == {2}


# --- slots, video, frames -------------------------------------------------------------------------------------------


def test_slots_are_evenly_spaced_or_by_number():
    still = np.zeros(64, np.int64)
    assert chosen_slots(None, still[:3]) == [0, 1, 2]
    assert chosen_slots(None, still) == [0, 9, 18, 27, 36, 45, 54, 63]
    assert chosen_slots("3", still) == [0, 32, 63]
    assert chosen_slots("99", still[:3]) == [0, 1, 2]
    assert chosen_slots("5,0,7-9", still[:10]) == [0, 5, 7, 8, 9]
    assert chosen_slots("7-7", still[:10]) == [7]
    for wrong in ("x", "3,10", "1-", "0", "-1", "2-99999999999", ""):
        with pytest.raises(RequestError):
            chosen_slots(wrong, still[:10])


def test_marked_slots_are_shown_before_all_others():
    events = np.zeros(32, int)
    events[[5, 6, 20]] = (3, 2, 1)
    assert {11, 30} | {5, 6, 20} < set(chosen_slots("8", events, (11, 30)))
    assert chosen_slots("1", events, (11, 30)) == [11]
    assert chosen_slots("0,3", events, (11,)) == [0, 3]


def test_a_mark_is_the_slot_that_is_shown_at_its_time(flash, tmp_path, capsys):
    token_map = read_token_map(flash / "kept")
    seconds = token_map.grid.seconds
    (marked,) = with_marks([token_map], [seconds[7], seconds[9] + 0.01, seconds[7]])
    assert marked.marked == (7, 9)
    with drawn(8, 3, 100) as figure:
        axes = figure.add_subplot()
        draw_timeline(axes, marked, [])
        lines = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":"]
    assert lines == [7, 9]
    assert page.page_data([marked], {})["marked"] == (7, 9)
    times = f"{seconds[7]},0:0{seconds[9]:.3f}"
    code, out, err = run(capsys, "view", flash / "kept", "-o", tmp_path / "a.png", "--mark", times, "--json")
    assert code == 0 and {7, 9} < set(json.loads(out)["slots"]), err
    for wrong, sentence in (("9999", "nothing"), ("soon", "not a time"), ("", "not a time")):
        code, out, err = run(capsys, "view", flash / "kept", "-o", tmp_path / "b.png", "--mark", wrong)
        assert code == 2 and out == "" and sentence in err and "hint:" in err
    assert not (tmp_path / "b.png").exists()


def test_half_of_the_slots_are_those_with_the_most_events():
    events = np.zeros(64, np.int64)
    events[[20, 21, 22, 40, 50]] = 3, 9, 1, 2, 1
    chosen = chosen_slots("8", events)
    assert len(chosen) == 8 and {20, 21, 40} <= set(chosen) and {0, 63} <= set(chosen)
    assert chosen_slots("2", events) == [0, 21]
    assert chosen_slots("1", events) == [0]
    few = np.zeros(10, np.int64)
    few[9] = 1
    assert 9 in chosen_slots("4", few) and len(chosen_slots("4", few)) == 4


@pytest.mark.parametrize("slots", [1, 2, 7, 32, 63, 128, 1801])
def test_ticks_are_even(slots):
    ticks = even_ticks(slots, 9)
    assert ticks[0] == 0 and len(ticks) <= 9 and ticks[-1] < slots
    assert len(set(np.diff(ticks))) <= 1 and (slots == 1 or len(ticks) >= 2)


def test_labels_of_events_do_not_touch_and_the_most_events_are_labelled():
    events = np.zeros(64, np.int64)
    events[[5, 6, 30]] = 1, 4, 2
    assert event_labels(events, 0.3) == [(5, "1"), (6, "4"), (30, "2")]
    assert event_labels(events, 1.0) == [(6, "4"), (30, "2")]
    assert event_labels(events, 0.05) == [(5, "1 event"), (6, "4 events"), (30, "2 events")]
    assert [text for _, text in event_labels(np.full(7, 12), 0.1)] == ["12"] * 7


def test_tiles_fill_their_rows():
    assert [tile_columns(count, 1.8) for count in (1, 4, 5, 6, 8, 9)] == [1, 4, 3, 3, 4, 3]
    assert tile_columns(8, 0.5) == 8


def test_the_video_is_known_by_its_checksum(flash, tmp_path, monkeypatch):
    source = read_token_map(flash / "kept").grid.source
    monkeypatch.chdir(tmp_path)
    assert frames.find_video(source, None, flash / "kept").path == flash / "flash.mp4"
    lonely = frames.find_video(source, None, tmp_path / "kept")
    assert lonely.path is None and "--video" in lonely.note
    (tmp_path / "flash.mp4").write_bytes(b"another")
    assert "checksum" in frames.find_video(source, None, tmp_path / "kept").note
    with pytest.raises(RequestError, match="checksum"):
        frames.find_video(source, tmp_path / "flash.mp4", flash / "kept")
    with pytest.raises(RequestError, match="no video"):
        frames.find_video(source, tmp_path / "no.mp4", flash / "kept")


def test_each_slot_shows_the_frame_that_was_encoded(flash):
    from stsimdiff_cli import video

    token_map = read_token_map(flash / "kept")
    scan = video.scan(flash / "flash.mp4")
    (whole,) = video.read_frames(flash / "flash.mp4", scan, range(scan.frames), chunk=scan.frames)
    for slot, frame in frames.read_slots(flash / "flash.mp4", token_map.grid, [0, 5, 31], 1000):
        at = whole.seconds.index(token_map.grid.seconds[slot])
        assert np.array_equal(frame, whole.pixels[at].numpy())


# --- terminal -------------------------------------------------------------------------------------------------------


def test_the_glance_shows_the_slot_with_most_events_in_its_colours():
    token_map = map_of(KINDS)
    assert blocks.most_eventful_slot(token_map) == 1
    assert blocks.block_lines(token_map, 1)[0] == "[on rgb(225,20,45)]  [/][on rgb(255,128,0)]  [/]"
    assert "1 event" in blocks.legend(token_map, 1) and "1 dropped" in blocks.legend(token_map, 1)
    quiet = map_of([[[1]], [[1]], [[-1]]], change=np.array([0, 0.1, 0.3], np.float32))
    assert blocks.most_eventful_slot(quiet) == 2


def test_a_tall_grid_has_two_rows_in_a_line():
    lines = blocks.block_lines(map_of([[[1, DROPPED]] * 13]), 0)
    assert len(lines) == 7 and lines[0].count("▀") == 2 and " on " in lines[0] and " on " not in lines[6]


def test_inspect_shows_blocks_on_a_coloured_terminal_only(flash, capsys, monkeypatch):
    from rich.console import Console

    from stsimdiff_cli.cli import output

    assert "dropped" not in run(capsys, "inspect", flash / "kept")[1]
    monkeypatch.setattr(output, "stdout", Console(force_terminal=True, color_system="truecolor", no_color=False))
    assert "dropped" in run(capsys, "inspect", flash / "kept")[1]


# --- the command ----------------------------------------------------------------------------------------------------


def test_a_picture_is_1200_pixels_wide(flash, tmp_path, capsys):
    out = tmp_path / "sheet.png"
    code, told, err = run(capsys, "view", flash / "kept", "-o", out, "--slots", "0,5", "--json")
    assert code == 0 and err == ""
    assert json.loads(told)["slots"] == [0, 5] and json.loads(told)["video"] == str(flash / "flash.mp4")
    assert struct.unpack(">I", out.read_bytes()[16:20]) == (1200,)


def test_a_clip_has_the_frames_of_the_video_at_their_times(flash, tmp_path, capsys):
    out = tmp_path / "clip.mp4"
    assert run(capsys, "view", flash / "kept", "-o", out)[0] == 0
    with av.open(str(out)) as made, av.open(str(flash / "flash.mp4")) as video:
        times = [frame.time for frame in made.decode(video=0)]
        assert times == pytest.approx([frame.time for frame in video.decode(video=0)], abs=0.002)


def test_a_gif_has_the_frames_of_the_clip_in_their_colours(flash, tmp_path, capsys):
    assert run(capsys, "view", flash / "kept", "-o", tmp_path / "c.gif")[0] == 0
    assert run(capsys, "view", flash / "kept", "-o", tmp_path / "c.mp4")[0] == 0
    with Image.open(tmp_path / "c.gif") as gif, av.open(str(tmp_path / "c.mp4")) as clip:
        pictures = [frame.to_ndarray(format="rgb24").astype(int) for frame in clip.decode(video=0)]
        assert gif.n_frames == len(pictures) == 32 and gif.info["duration"] in (120, 130)
        for number in (0, 5, 31):
            gif.seek(number)
            seen = np.asarray(gif.convert("RGB")).astype(int)
            assert seen.shape == pictures[number].shape and np.abs(seen - pictures[number]).mean() < 6


@pytest.mark.parametrize(("name", "begin"), [("s.svg", b"<?xml"), ("s.pdf", b"%PDF"), ("s.dark.png", b"\x89PNG")])
def test_a_picture_of_one_file_or_two_in_every_form(flash, tmp_path, capsys, name, begin):
    for files in ([flash / "kept"], [flash / "kept", flash / "even"]):
        assert run(capsys, "view", *files, "-o", tmp_path / name, "--slots", "2", "--force")[0] == 0
        assert (tmp_path / name).read_bytes().startswith(begin)
    if name.endswith(".svg"):  # the last one is of two files, whose time lines share a scale
        text = (tmp_path / name).read_text()
        assert "uniform, ratio 0.3" in text and "st-simdiff, ratio 0.3" in text


def test_without_the_video_the_grid_alone_is_drawn_with_a_note(flash, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(flash / "kept", tmp_path / "alone")
    for name in ("a.png", "a.mp4", "a.html"):
        code, _, err = run(capsys, "view", "alone", "-o", name)
        assert code == 0 and "grid is drawn alone" in err.replace("\n", " ")


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (["tokens", "-o", "a.png"], "nothing was chosen"),
        (["kept", "-o", "a.webp"], "not a picture"),
        (["kept", "even", "-o", "a.mp4"], "2 files"),
        (["kept", "kept", "even", "-o", "a.html"], "too many"),
        (["kept", "-o", "a.html", "--slots", "3"], "--slots"),
        (["kept", "-o", "a.png", "--slots", "0,99"], "does not have"),
        (["kept", "-o", "a.png", "--slots", "x"], "not a list"),
        (["no", "-o", "a.png"], "no file"),
        (["kept", "-o", "tokens.png", "--video", "kept"], "checksum"),
        (["even", "-o", "a.png", "--tokens", "kept"], "already compressed"),
    ],
)
def test_wrong_requests_are_a_sentence_and_a_hint(flash, capsys, monkeypatch, args, problem):
    monkeypatch.chdir(flash)
    code, out, err = run(capsys, "view", *args)
    assert (
        code == 2 and out == "" and problem in err and "hint:" in err and not Path(args[args.index("-o") + 1]).exists()
    )


def test_an_existing_output_stays_without_force(flash, tmp_path, capsys):
    (tmp_path / "a.html").write_text("mine")
    assert run(capsys, "view", flash / "kept", "-o", tmp_path / "a.html")[0] == 2
    assert (tmp_path / "a.html").read_text() == "mine"
    assert run(capsys, "view", flash / "kept", "-o", tmp_path / "a.html", "--force")[0] == 0


def test_files_of_different_videos_are_not_compared(flash, tmp_path, capsys):
    tokens = st.encode_video(SAMPLES / "move.mp4", sampling=Sampling(frames=32))
    st.save_compressed(tmp_path / "other", st.compress_tokens(tokens, "0.3", "uniform"))
    code, _, err = run(capsys, "view", flash / "kept", tmp_path / "other", "-o", tmp_path / "a.html")
    assert code == 2 and "different videos" in err
    st.save_tokens(tmp_path / "tokens", tokens)
    code, _, err = run(capsys, "view", flash / "even", "--tokens", tmp_path / "tokens", "-o", tmp_path / "a.png")
    assert code == 2 and "another video" in err


# --- the page's data ------------------------------------------------------------------------------------------------


def test_the_page_holds_what_the_file_holds(flash):
    video, token_map = st.load(flash / "kept"), read_token_map(flash / "kept")
    (file,) = page.page_data([token_map], {})["files"]
    assert (file["index"], file["kind"]) == (video.index.tolist(), video.kind.tolist())
    assert file["importance"] == pytest.approx(video.importance.tolist(), rel=1e-4)
    assert sum(file["perSlot"]) == len(video.index) and len(file["community"]) == token_map.grid.tokens


def test_a_frame_in_the_page_is_the_frame(flash):
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, :32], picture[:, 32:] = (220, 30, 40), (20, 90, 200)
    with av.open(__import__("io").BytesIO(page.jpeg(picture)), format="jpeg_pipe") as container:
        again = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert np.abs(again[:, 4:28].astype(int) - picture[:, 4:28]).max() < 12
    assert np.abs(again[:, 36:60].astype(int) - picture[:, 36:60]).max() < 12


def test_a_name_cannot_end_the_script_that_holds_it(flash):
    token_map = read_token_map(flash / "kept")
    source = dataclasses.replace(token_map.grid.source, name="</script><b>.mp4")
    named = dataclasses.replace(token_map, grid=dataclasses.replace(token_map.grid, source=source))
    text = page._embedded(page.page_data([named], {}))
    assert "<" not in text and json.loads(text)["title"].startswith("</script>")
