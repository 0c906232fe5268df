"""Reading videos: exact frames from every kind of file, and what is missing is said."""

from __future__ import annotations

import hashlib
import os
import weakref
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from stsimdiff_cli.errors import RequestError, VideoError
from stsimdiff_cli.video import Sampling, Scan, choose_frames, read_frames, scan, source_of
from stsimdiff_cli.video.decoding import Decoding
from tests.hostile.videos import copy_with_made_up_times
from tests.support.awkward_clips import FIRST_MOOV, HEVC, MPEG, RECIPES, VARIABLE, N, make_clip
from tests.support.clip_factory import (
    CLOSED_GOP,
    OPEN_GOP,
    has_encoder,
    paint,
    read_number,
    remux,
    render,
    render_colour,
    render_sound,
    spoil,
    trim,
    truncate,
    turn,
)
from tests.support.decoding import decode_with, distrust


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """clip(name) renders the clip of that name, once."""
    folder = tmp_path_factory.mktemp("clips")
    os.environ.setdefault("SVT_LOG", "0")

    def make(name: str) -> Path:
        return make_clip(folder / name)

    return make


@pytest.fixture(params=[1, 4], ids=["one thread", "four threads"])
def threads(request, monkeypatch):
    decode_with(monkeypatch, request.param)


def read(path: Path, scanned: Scan, indices, chunk: int = 8) -> tuple[list[int | None], list[float], list[float]]:
    """(painted numbers, their seconds, missing seconds) of the frames at `indices`."""
    numbers, seconds, missing = [], [], []
    for frames in read_frames(path, scanned, indices, chunk):
        numbers += [read_number(picture.numpy()) for picture in frames.pixels]
        seconds += frames.seconds
        missing += frames.missing_seconds
    return numbers, seconds, missing


# Exact frames.


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("indices", [range(N), (0, 20, 21, 47, 59), (13,), (59,), (5, 6, 7, 30, 31)], ids=str)
def test_every_frame_read_is_the_one_asked_for(clip, name, indices):
    scanned = scan(clip(name))
    numbers, seconds, missing = read(clip(name), scanned, indices)
    assert scanned.frames == N
    assert numbers == list(indices)
    assert seconds == [scanned.seconds[i] for i in indices]
    assert missing == []


@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("name", ["open.mp4", "variable.mp4", "open.ts", "h264.avi"])
def test_the_size_of_chunks_does_not_change_the_frames(clip, name, chunk):
    path, indices = clip(name), range(0, N, 4)
    scanned = scan(path)
    parts = list(read_frames(path, scanned, indices, chunk))
    assert [len(p.seconds) for p in parts[:-1]] == [chunk] * (len(parts) - 1)
    together = torch.cat([p.pixels for p in parts])
    assert torch.equal(together, torch.cat([p.pixels for p in read_frames(path, scanned, indices)]))


def test_no_chunk_is_held_after_the_next_one_is_asked_for(clip):
    path = clip("closed.mp4")
    seen = []
    for frames in read_frames(path, scan(path), range(N), 8):
        assert all(past() is None for past in seen)
        assert frames.pixels.shape == (len(frames.seconds), 96, 128, 3)
        assert frames.pixels.dtype == torch.uint8
        seen.append(weakref.ref(frames.pixels))
        del frames
    assert len(seen) == 8


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to list open files")
@pytest.mark.parametrize("whole", [True, False])
def test_the_file_is_closed_when_reading_ends_or_is_given_up(clip, whole):
    path = clip("closed.mp4")
    frames = read_frames(path, scan(path), range(N))
    next(frames)
    if whole:
        list(frames)
    frames.close()
    assert path not in [fd.resolve() for fd in Path("/proc/self/fd").iterdir()]


@pytest.mark.parametrize("name", ["closed.mp4", "open.mkv", "vp9.webm", "open.ts"])
def test_every_group_of_pictures_is_decoded_once(clip, name, fed):
    path = clip(name)
    read(path, scan(path), range(N), chunk=7)
    assert len(fed) <= N + 2


def test_groups_without_a_chosen_frame_are_not_decoded(clip, fed):
    path = clip("closed.mp4")
    read(path, scan(path), (0, 48))
    assert len(fed) < 12


@pytest.mark.parametrize("name", ["open.mp4", "open.ts"])
def test_a_file_that_cannot_be_entered_by_seeking_is_read_from_its_beginning_once(clip, name, fed, monkeypatch):
    monkeypatch.setattr(Decoding, "_enter", lambda self, entry: False)
    path = clip(name)
    assert read(path, scan(path), range(0, N, 7), chunk=2)[0] == list(range(0, N, 7))
    assert len(fed) <= N + 2


def test_packets_after_a_seek_that_are_not_those_of_the_scan_are_not_trusted(clip, monkeypatch):
    distrust(monkeypatch, 40)
    path = clip("open.mp4")
    assert read(path, scan(path), range(0, N, 7), chunk=2) == (
        list(range(0, N, 7)),
        pytest.approx([i / 30 for i in range(0, N, 7)]),
        [],
    )


# What a scan tells.


@pytest.mark.parametrize("name", RECIPES)
def test_times_are_those_of_the_clip_and_begin_at_zero(clip, name):
    scanned = scan(clip(name))
    times = np.array(VARIABLE) / 60 if name == "variable.mp4" else np.arange(N) / 30
    assert scanned.seconds[0] == 0
    assert np.abs(scanned.seconds - times).max() <= 0.001  # Matroska's tick
    assert scanned.duration == pytest.approx(times[-1] + (1 / 60 if name == "variable.mp4" else 1 / 30), abs=0.0011)
    assert scanned.fps == pytest.approx(N / scanned.duration)
    assert (scanned.width, scanned.height) == ((131, 97) if name == "odd.mp4" else (128, 96))


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("closed.mp4", {"reordered"}),
        ("open.mp4", {"reordered", "leading"}),
        ("hevc.mp4", {"reordered", "leading"}),
        ("variable.mp4", {"reordered", "variable_rate"}),
        ("open.mkv", {"reordered", "leading"}),
        ("vp9.webm", set()),
        ("open.ts", {"reordered", "leading", "transport_stream"}),
        ("mpeg2.mpg", {"reordered", "leading", "transport_stream"}),
        ("h264.avi", {"counted"}),
        ("raw.h264", {"counted"}),
    ],
)
def test_a_scan_says_what_makes_a_file_awkward(clip, name, flags):
    scanned = scan(clip(name))
    names = ("reordered", "leading", "variable_rate", "transport_stream", "edit_list", "counted", "cut_short")
    assert {n for n in names if getattr(scanned, n)} == flags


def test_a_scan_names_container_and_codec(clip):
    names = {n: (scan(clip(n)).container, scan(clip(n)).codec) for n in ("closed.mp4", "open.mkv", "open.ts")}
    assert names == {"closed.mp4": ("mp4", "h264"), "open.mkv": ("matroska", "h264"), "open.ts": ("mpegts", "h264")}


def test_a_file_without_usable_times_is_said_to_be_counted(clip):
    assert "stores no times" in scan(clip("raw.h264")).notes[0]
    assert "when frames are decoded" in scan(clip("h264.avi")).notes[0]
    assert scan(clip("closed.mp4")).notes == ()


# Cut, trimmed, turned.


@pytest.mark.usefixtures("threads")
def test_frames_that_an_edit_list_cuts_off_are_not_shown(tmp_path):
    path = trim(render(tmp_path / "cut.mp4", options=CLOSED_GOP), 22 / 30)
    scanned = scan(path)
    assert scanned.edit_list
    assert scanned.frames == N - 22
    assert scanned.seconds[0] == 0
    assert scanned.key_seconds[0] == pytest.approx(-10 / 30)  # frame 12, from which frame 22 is decoded
    assert read(path, scanned, range(scanned.frames)) == (list(range(22, N)), list(scanned.seconds), [])
    assert read(path, scanned, (1, 30))[0] == [23, 52]


@pytest.mark.parametrize("options", [CLOSED_GOP, OPEN_GOP])
def test_a_transport_stream_cut_anywhere_begins_at_its_first_whole_frame(tmp_path, options):
    path = render(tmp_path / "cut.ts", options=options)
    data = path.read_bytes()
    path.write_bytes(data[188 * (len(data) // 188 // 3) :])
    scanned = scan(path)
    numbers, _, missing = read(path, scanned, range(scanned.frames))
    assert missing == []
    assert numbers == list(range(N - scanned.frames, N))
    assert scanned.frames >= N // 2


@pytest.mark.skipif(not has_encoder("libx265"), reason="this build of PyAV cannot encode HEVC")
def test_pictures_without_their_references_at_the_beginning_are_not_counted(tmp_path):
    whole = render(tmp_path / "whole.mkv", **HEVC)
    first_key = int(np.flatnonzero(scan(whole).packets.key)[2])
    path = remux(whole, tmp_path / "cut.mkv", first=first_key)
    scanned = scan(path)
    numbers, _, missing = read(path, scanned, range(scanned.frames))
    assert missing == []
    assert numbers == list(range(N - scanned.frames, N))


@pytest.mark.parametrize(
    ("matrix", "store", "degrees"),
    [
        ((0, 1, -1, 0), lambda shown: np.rot90(shown, 1), 90),
        ((-1, 0, 0, -1), lambda shown: np.rot90(shown, 2), 180),
        ((0, -1, 1, 0), lambda shown: np.rot90(shown, -1), 270),
        ((-1, 0, 0, 1), np.fliplr, 0),
        ((1, 0, 0, -1), np.flipud, 180),
        ((0, 1, 1, 0), lambda shown: shown.swapaxes(0, 1), 90),
    ],
)
def test_pictures_stored_turned_or_mirrored_are_shown_upright(tmp_path, matrix, store, degrees):
    stored = store(paint(0)).shape
    path = render(
        tmp_path / "turned.mp4",
        range(5),
        size=(stored[1], stored[0]),
        picture=lambda number: np.ascontiguousarray(store(paint(number))),
    )
    scanned = scan(turn(path, matrix))
    assert (scanned.width, scanned.height, scanned.rotation) == (128, 96, degrees)
    assert read(path, scanned, range(5))[0] == list(range(5))


@pytest.mark.parametrize("matrix", ["bt709", "bt601", None])
@pytest.mark.parametrize("full_range", [False, True])
def test_colours_are_converted_with_the_matrix_that_the_clip_names(tmp_path, matrix, full_range):
    colour = (200, 30, 40)
    path = render_colour(tmp_path / "colour.mp4", colour, matrix or "bt601", full_range, tagged=matrix is not None)
    pixels = next(read_frames(path, scan(path), [0])).pixels
    assert (pixels[0, 16, 16].int() - torch.tensor(colour)).abs().max() <= 3


@pytest.mark.parametrize(("height", "matrix"), [(718, "bt601"), (720, "bt709"), (1080, "bt709")])
def test_a_large_video_that_names_no_matrix_is_bt709_as_in_players(tmp_path, height, matrix):
    colour = (200, 30, 40)
    path = render_colour(tmp_path / "colour.mp4", colour, matrix, False, tagged=False, size=(128, height))
    scanned = scan(path)
    pixels = next(read_frames(path, scanned, [0])).pixels
    assert (pixels[0, 16, 16].int() - torch.tensor(colour)).abs().max() <= 3
    assert scanned.untagged_hd == (height >= 720)
    assert source_of(path, scanned, "pyav").notes == ()
    assert ["takes BT.601" in n for n in source_of(path, scanned, "decord").notes] == [True] * (height >= 720)


# Times that are not those of showing.


IN_ASF = {
    "h264 in asf": lambda p: render(p / "clip.asf", options=OPEN_GOP),
    "mpeg2 in asf": lambda p: render(p / "clip.asf", codec="mpeg2video", **MPEG),
    "avi to mkv": lambda p: copy_with_made_up_times(render(p / "clip.avi", options=OPEN_GOP), p / "clip.mkv"),
    "avi to mp4": lambda p: copy_with_made_up_times(render(p / "clip.avi", options=OPEN_GOP), p / "clip.mp4"),
    "avi to mov": lambda p: copy_with_made_up_times(render(p / "clip.avi", options=CLOSED_GOP), p / "clip.mov"),
}


@pytest.mark.parametrize("name", IN_ASF)
def test_frames_are_in_order_where_the_file_stores_when_they_are_decoded(tmp_path, name):
    path = IN_ASF[name](tmp_path)
    scanned = scan(path)
    numbers, seconds, missing = read(path, scanned, range(scanned.frames))
    assert numbers == list(range(N))
    assert missing == []
    assert np.abs(np.array(seconds) - np.arange(N) / 30).max() < 0.05
    assert ["are estimates" in n for n in scanned.notes] == [True]


def test_pictures_without_a_time_are_counted(tmp_path):
    path = render(tmp_path / "clip.mpg", format="vob", options={"x264-params": "keyint=1:bframes=0"})
    scanned = scan(path)
    assert not scanned.packets.timed.all()
    assert "have no time of their own" in scanned.notes[0]
    assert read(path, scanned, range(scanned.frames)) == (
        list(range(N)),
        pytest.approx(np.arange(N) / 30, abs=0.01),
        [],
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"options": {"x264-params": "bframes=0:keyint=12"}},
        {"options": CLOSED_GOP},
        {"codec": "mpeg2video", "gop_size": 12, "max_b_frames": 0},
        {"codec": "mpeg4", "gop_size": 12},
    ],
    ids=["h264 without B-frames", "h264", "mpeg2", "mpeg4"],
)
def test_a_healthy_file_is_not_decoded_to_learn_its_order(tmp_path, settings, monkeypatch):
    monkeypatch.setattr("stsimdiff_cli.video.scanning.by_counting", None)
    path = render(tmp_path / "clip.mkv", range(200), **settings)
    assert scan(path).frames == 200
    assert scan(path).notes == ()


def test_joined_streams_whose_times_jump_back_are_counted(tmp_path):
    first = render(tmp_path / "a.ts", options=CLOSED_GOP)
    second = render(tmp_path / "b.ts", range(100, 100 + N), options=CLOSED_GOP, size=(160, 128))
    path = tmp_path / "joined.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    scanned = scan(path)
    assert "jump back" in scanned.notes[0]
    numbers, _, missing = read(
        path, scanned, range(scanned.frames)
    )  # the second part is scaled to the first one's size
    assert numbers == [n for n in (*range(N), *range(100, 100 + N)) if n in numbers]
    assert len(numbers) + len(missing) == 2 * N
    assert len(missing) < 24  # the packet at the joint counts as damaged


def test_one_frame_is_a_video(tmp_path):
    path = render(tmp_path / "one.mp4", [7])
    scanned = scan(path)
    assert scanned.frames == 1
    assert choose_frames(scanned, Sampling(32)) == (0,)
    assert read(path, scanned, [0]) == ([7], [0.0], [])


def test_a_name_that_looks_like_a_protocol_or_a_pattern_is_a_name(tmp_path):
    path = render(tmp_path / "concat:a%03d.mp4", range(3))
    assert scan(path).frames == 3


# Damage.


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(
    "settings",
    [
        {"options": CLOSED_GOP},
        {"options": OPEN_GOP},
        {"codec": "mpeg4", **MPEG},
        pytest.param(HEVC, marks=pytest.mark.skipif(not has_encoder("libx265"), reason="PyAV without libx265")),
    ],
    ids=["closed", "open", "mpeg4", "hevc"],
)
def test_frames_built_from_a_damaged_packet_are_missing_and_no_others_are_wrong(tmp_path, settings):
    path = render(tmp_path / "damaged.mp4", **settings)
    whole = scan(path)
    bad = int(whole.position[28])
    spoil(path, bad)
    scanned = scan(path)
    for chunk in (1, 8):
        numbers, seconds, missing = read(path, scanned, range(N), chunk)
        kept = [round(t * 30) for t in seconds]
        lost = [round(t * 30) for t in missing]
        assert numbers == kept
        assert sorted(kept + lost) == list(range(N))
        group = [i for i in range(N) if whole.entry[i] <= bad <= whole.position[i]]
        assert set(group) <= set(lost)
        assert all(whole.entry[i] <= bad and whole.position[i] >= bad - 4 for i in lost)


def test_each_chunk_tells_its_own_missing_frames_and_may_hold_no_other(tmp_path):
    path = spoil(render(tmp_path / "damaged.mp4", options=CLOSED_GOP), 24)  # the key frame of 24 to 35
    chunks = list(read_frames(path, scan(path), range(N), 6))
    assert [len(c.seconds) + len(c.missing_seconds) for c in chunks] == [6] * 10
    assert [len(c.seconds) for c in chunks][4:6] == [0, 0]
    assert chunks[4].pixels.shape == (0, 96, 128, 3)
    assert chunks[4].missing_seconds == pytest.approx([i / 30 for i in range(24, 30)])


def test_reading_nothing_but_damage_is_an_error(tmp_path):
    path = spoil(render(tmp_path / "damaged.mp4", options=CLOSED_GOP), 24)
    with pytest.raises(VideoError, match="None of the 2 chosen frames"):
        list(read_frames(path, scan(path), [26, 30]))


@pytest.mark.usefixtures("threads")
def test_a_damaged_file_that_is_counted_keeps_its_order_and_about_its_times(tmp_path):
    path = spoil(render(tmp_path / "damaged.avi", options=CLOSED_GOP), 30)
    scanned = scan(path)
    numbers, seconds, missing = read(path, scanned, range(scanned.frames))
    assert len(numbers) + len(missing) == scanned.frames
    assert numbers == sorted(set(numbers))
    assert {*range(24), *range(52, N)} <= set(numbers)
    assert max(abs(n - t * 30) for n, t in zip(numbers, seconds, strict=True)) < 2.5


@pytest.mark.usefixtures("threads")
def test_a_truncated_file_gives_what_is_there(tmp_path):
    path = truncate(render(tmp_path / "short.mp4", options=CLOSED_GOP, container_options=FIRST_MOOV), 0.7)
    scanned = scan(path)
    numbers, seconds, missing = read(path, scanned, range(scanned.frames))
    assert scanned.cut_short
    assert "ends early" in scanned.notes[0]
    assert 30 < scanned.frames < N
    assert numbers == [round(t * 30) for t in seconds]
    assert len(missing) <= 6


def test_a_file_that_changes_after_the_scan_is_noticed(tmp_path):
    path = render(tmp_path / "clip.mp4", options=CLOSED_GOP)
    scanned = scan(path)
    render(path, range(500, 500 + N), options=OPEN_GOP)
    with pytest.raises(VideoError, match="changed while it was read"):
        list(read_frames(path, scanned, [0, 5, 50]))


# Files that are not videos.


def text(path: Path) -> Path:
    path.write_text("This is not a video. " * 100)
    return path


def empty(path: Path) -> Path:
    path.touch()
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def cover_only(path: Path) -> Path:
    render_sound(path, cover=True)
    return path


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: p, RequestError, "There is no file"),
        (folder, RequestError, "is a folder"),
        (empty, VideoError, "is empty"),
        (text, VideoError, "not a video"),
        (render_sound, VideoError, "no video stream, only audio"),
        (cover_only, VideoError, "no video stream, only audio"),
        (lambda p: truncate(render(p), 0.5), VideoError, "without a usable index"),
        (lambda p: spoil(render(p, options=CLOSED_GOP), *range(N)), VideoError, "no frame that can be decoded"),
    ],
    ids=["missing", "folder", "empty", "text", "sound", "cover", "no index", "all damaged"],
)
def test_what_is_no_video_is_refused_with_a_sentence_and_a_hint(tmp_path, make, error, message):
    path = make(tmp_path / "thing.mp4")
    with pytest.raises(error, match=message) as caught:
        scan(path)
    assert type(caught.value) is error
    assert "thing.mp4" in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("indices", [[3, 3], [5, 4], [-1, 2], [0, N]])
def test_impossible_indices_are_a_programming_error(clip, indices):
    path = clip("closed.mp4")
    with pytest.raises(ValueError, match="expected"):
        read_frames(path, scan(path), indices)


# The record of the source, and a real clip.


def test_the_source_record_describes_the_file(clip):
    path = clip("closed.mp4")
    source = source_of(path, scan(path), "pyav", [0.5])
    data = path.read_bytes()
    assert (source.name, source.bytes, source.sha256) == (
        "closed.mp4",
        len(data),
        hashlib.sha256(data).hexdigest(),
    )
    assert (source.frames, source.width, source.height) == (N, 128, 96)
    assert (source.seconds, source.fps) == (pytest.approx(2), pytest.approx(30))
    assert (source.decoder, source.missing_seconds) == ("pyav", (0.5,))


BUNNY = Path(__file__).parents[2] / "sample_videos" / "bigbuckbunny.mp4"


@pytest.mark.skipif(not BUNNY.exists(), reason="the sample video is not here")
def test_chosen_frames_of_a_real_clip_are_those_of_decoding_it_all():
    scanned = scan(BUNNY)
    chosen = choose_frames(scanned, Sampling(6))
    with av.open(str(BUNNY)) as container:
        every = {
            i: f.to_ndarray(
                format="rgb24", src_colorspace="ITU709", dst_colorspace="ITU601"
            )  # it has 720 lines, untagged
            for i, f in enumerate(container.decode(video=0))
            if i in chosen
        }
    pixels = torch.cat([f.pixels for f in read_frames(BUNNY, scanned, chosen, 2)]).numpy()
    assert all(np.array_equal(pixels[k], every[i]) for k, i in enumerate(chosen))
