"""H.264: reading enters only where pictures are whole, and leaves out pictures that are not needed on the way."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stsimdiff_cli.video import Scan, read_frames, scan
from stsimdiff_cli.video.decoding import Decoding
from stsimdiff_cli.video.nal_units import begins_refresh, length_size, unreferenced
from tests.support.awkward_clips import two_whole_pictures
from tests.support.clip_factory import (
    CLOSED_GOP,
    INTRA_REFRESH,
    OPEN_GOP,
    has_encoder,
    read_number,
    remux,
    render,
    spoil,
)
from tests.support.decoding import decode_with

N = 100
UNEVEN = [int(t) for t in np.cumsum(np.resize([1, 1, 4, 2], N))]  # in ninetieths of a second
REFRESHES = {
    "refresh 40": "keyint=40:intra-refresh=1:bframes=0",
    "refresh 15": "keyint=15:intra-refresh=1:bframes=0:ref=1",
    "refresh with B-frames": "keyint=30:intra-refresh=1:bframes=3",
}
GOPS = REFRESHES | {
    "one GOP": "keyint=250:scenecut=0:bframes=2:b-adapt=0",
    "pyramid": "keyint=24:bframes=7:b-pyramid=normal:b-adapt=0:scenecut=0",
    "strict pyramid": "keyint=50:bframes=4:b-pyramid=strict:b-adapt=0:ref=8",
    "no pyramid": "keyint=60:bframes=16:b-pyramid=none:b-adapt=0",
    "open": OPEN_GOP["x264-params"],
    "interlaced": "tff=1:keyint=24:bframes=3",
    "slices": "keyint=20:bframes=2:slices=4",
    "all intra": "keyint=1",
}


def clip(path: Path, gops: str, uneven: bool = False) -> Path:
    times = {"ticks": UNEVEN, "tick": Fraction(1, 90)} if uneven else {}
    return render(path, range(N), options={"x264-params": GOPS[gops]}, **times)


def decode(path: Path) -> list[np.ndarray]:
    """Every picture of a file, decoded from its beginning to its end."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def read(path: Path, scanned: Scan, indices, chunk: int = 8) -> list[np.ndarray]:
    """The pictures at `indices`, none of them missing."""
    pictures = []
    for frames in read_frames(path, scanned, indices, chunk):
        assert frames.missing_seconds == ()
        pictures += [p.numpy() for p in frames.pixels]
    return pictures


@pytest.fixture
def decoded(monkeypatch):
    """The times of the pictures that come out of the decoder, in ticks."""
    times = []
    feed = Decoding.feed

    def watch(self):
        before = len(self.pending)
        feed(self)
        times.extend(stamp for stamp, _ in list(self.pending)[before:])

    monkeypatch.setattr(Decoding, "feed", watch)
    return times


# The same pictures as in a full decode.


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("gops", GOPS)
def test_frames_read_alone_and_in_groups_are_those_of_a_full_decode(tmp_path, gops, ending):
    path = clip(tmp_path / f"clip.{ending}", gops)
    scanned, every, draw = scan(path), decode(path), random.Random(0)
    assert scanned.frames == len(every) == N
    groups = [[i] for i in range(N)] if gops in REFRESHES else [[i] for i in range(0, N, 9)]
    groups += [sorted(draw.sample(range(N), 12)) for _ in range(6)] + [list(range(N))]
    for k, group in enumerate(groups):
        assert all(
            np.array_equal(a, every[i]) for a, i in zip(read(path, scanned, group, 1 + k % 9), group, strict=True)
        )


def test_a_refresh_of_one_frame_is_no_whole_picture(tmp_path):
    options = {"x264-params": GOPS["refresh 15"]}
    path = render(tmp_path / "narrow.mp4", range(60), options=options, size=(32, 96))  # recovery_frame_cnt is 0
    scanned, every = scan(path), decode(path)
    assert all(np.array_equal(read(path, scanned, [i])[0], every[i]) for i in range(60))


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("gops", ["pyramid", "open", "refresh with B-frames"])
def test_frames_of_varying_rate_are_those_of_a_full_decode(tmp_path, gops, threads, monkeypatch):
    decode_with(monkeypatch, threads)
    path = clip(tmp_path / "clip.mkv", gops, uneven=True)
    scanned, every = scan(path), decode(path)
    for group in (range(0, N, 7), [50], [61, 62, 99], range(N)):
        assert all(np.array_equal(a, every[i]) for a, i in zip(read(path, scanned, group), group, strict=True))


# Where reading enters.


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_an_open_gop_is_entered_at_its_picture_that_is_no_idr(tmp_path, ending, decoded):
    path = clip(tmp_path / f"clip.{ending}", "open")
    scanned = scan(path)
    assert not scanned.refreshed
    assert scanned.packets.key.sum() > N // 12
    read(path, scanned, [90])
    assert (
        min(decoded) >= scanned.packets.pts[scanned.entry[90]] - 3 / 30 / scanned.tick - 1
    )  # B-frames shown before it
    assert len(decoded) < 20


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("gops", REFRESHES)
def test_a_refresh_is_not_entered(tmp_path, gops, ending):
    scanned = scan(clip(tmp_path / f"clip.{ending}", gops))
    assert scanned.refreshed
    assert np.flatnonzero(scanned.packets.key).tolist() == [0]
    assert not scanned.entry.any()


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_a_whole_picture_among_refreshes_is_entered(tmp_path, ending, fed):
    path = two_whole_pictures(tmp_path / f"clip.{ending}")
    scanned, every = scan(path), decode(path)
    assert np.flatnonzero(scanned.packets.key).tolist() == [0, 50]
    assert scanned.packets.refresh.sum() == 4
    for i in (49, 50, 75, 95):
        fed.clear()
        assert np.array_equal(read(path, scanned, [i])[0], every[i])
        assert len(fed) <= i % 50 + 5


def test_a_refresh_to_which_a_seek_leads_is_passed_over(tmp_path, fed, monkeypatch):
    class Early:
        """A container whose seeks lead 15 frames too far back."""

        def __init__(self, container):
            self._container = container

        def __getattr__(self, name):
            return getattr(self._container, name)

        def seek(self, ticks, **settings):
            self._container.seek(ticks - round(0.5 / scanned.tick), **settings)

    begin = Decoding._begin

    def begin_early(self):
        begin(self)
        self._container = Early(self._container)

    monkeypatch.setattr(Decoding, "_begin", begin_early)
    path = two_whole_pictures(tmp_path / "clip.mp4")
    scanned = scan(path)
    assert read_number(read(path, scanned, [75])[0]) == 75
    assert len(fed) <= 30


@pytest.mark.parametrize("ending", ["mp4", "ts"])
@pytest.mark.parametrize("gops", REFRESHES)
def test_a_stream_that_begins_between_whole_pictures_is_shown_from_its_third_refresh(tmp_path, gops, ending):
    whole = render(tmp_path / f"whole.{ending}", range(200), options={"x264-params": GOPS[gops]})
    refreshes = np.flatnonzero(scan(whole).packets.refresh)
    path = remux(whole, tmp_path / f"cut.{ending}", first=int(refreshes[0]))
    scanned = scan(path)
    numbers = [read_number(p) for p in read(path, scanned, range(scanned.frames))]
    assert numbers == list(range(200 - scanned.frames, 200))
    assert scanned.frames == pytest.approx(200 - refreshes[2], abs=3)  # B-frames stored after it and shown before
    assert "begins with an incomplete picture" in scanned.notes[0]


@pytest.mark.skipif(not has_encoder("libx265"), reason="this build of PyAV cannot encode HEVC")
@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_refreshes_in_hevc_are_no_key_packets(tmp_path, ending):
    options = {"x265-params": "keyint=20:intra-refresh=1:log-level=none"}
    path = render(tmp_path / f"clip.{ending}", range(60), codec="libx265", options=options)
    scanned, every = scan(path), decode(path)
    assert np.flatnonzero(scanned.packets.key).tolist() == [0]
    assert all(np.array_equal(read(path, scanned, [i])[0], every[i]) for i in range(0, 60, 7))


# What is left out.


@pytest.mark.parametrize("gops", ["one GOP", "pyramid", "open", "refresh with B-frames"])
@pytest.mark.parametrize("ending", ["mp4", "ts"])
def test_pictures_to_which_no_other_refers_are_not_decoded_on_the_way(tmp_path, gops, ending, decoded, monkeypatch):
    path = clip(tmp_path / f"clip.{ending}", gops)
    scanned, wanted = scan(path), [20, 70]
    read(path, scanned, wanted)
    with_skipping = list(decoded)
    decoded.clear()
    monkeypatch.setattr(Decoding, "_skip", lambda *_: None)
    read(path, scanned, wanted)
    assert set(with_skipping) < set(decoded)
    assert {int(scanned.packets.pts[scanned.position[i]]) for i in wanted} <= set(with_skipping)
    assert len(with_skipping) <= 0.75 * len(decoded)


def test_a_picture_before_the_chosen_ones_is_left_out_and_neither_of_them(tmp_path, decoded):
    path = clip(tmp_path / "clip.mp4", "no pyramid")  # stored: 0, 17, and the 16 between
    scanned = scan(path)
    assert [read_number(p) for p in read(path, scanned, [5, 9])] == [5, 9]
    shown = [round((t - scanned.packets.pts[0]) * scanned.tick * 30) for t in decoded]
    assert {0, 5, 9, 17} <= set(shown)  # 17 as well, which they are made from: damage in it is told when it comes out
    assert not {1, 2, 3, 4} & set(shown)


def test_only_a_picture_stored_and_shown_before_the_one_looked_for_is_left_out(tmp_path):
    path = clip(tmp_path / "clip.mp4", "no pyramid")
    with av.open(str(path)) as container:
        reference, droppable = itertools.islice(container.demux(video=0), 1, 3)  # shown at 17 and at 1
    decoding = Decoding(path, scan(path), threads=1)
    time = droppable.pts

    def left_out(packet, position, goal):
        decoding.goal = goal
        decoding._skip(packet, position)
        return decoding._skipping

    assert left_out(droppable, 2, (3, time + 1))
    assert not left_out(droppable, 2, (2, time))
    assert not left_out(droppable, 2, (3, time))
    assert not left_out(droppable, 2, (3, time - 1))
    assert not left_out(reference, 1, (40, reference.pts + 1))
    assert not left_out(droppable, 2, None)
    droppable.pts = None  # a second field: as the first
    assert not left_out(droppable, 3, (40, time + 9))
    droppable.pts = time
    assert left_out(droppable, 2, (40, time + 9))
    droppable.pts = None
    assert left_out(droppable, 3, (40, time + 9))
    decoding.close()


FILLS = {
    "zeros": bytes,
    "filler data": lambda size: (size - 4).to_bytes(4, "big") + b"\x0c" + b"\xff" * (size - 6) + b"\x80",
    "access unit delimiter": lambda size: packed([DELIMITER, b"\x0c" + b"\xff" * (size - 12) + b"\x80"], 4),
}


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("options", [CLOSED_GOP, INTRA_REFRESH], ids=["closed", "refresh"])
@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("bad", [24, 29, 30, 31, 32])
def test_a_packet_without_its_picture_spoils_no_frame_in_silence(tmp_path, bad, fill, options, threads, monkeypatch):
    decode_with(monkeypatch, threads)
    path = spoil(render(tmp_path / "damaged.mp4", range(60), options=options), bad, fill=FILLS[fill])
    scanned = scan(path)
    for index in range(24, 48):
        pictures = [p for f in read_frames(path, scanned, [0, index], 1) for p in f.pixels]
        assert [read_number(p.numpy()) for p in pictures] in ([0], [0, index])
        assert len(pictures) == 2 or index < 36 or options is INTRA_REFRESH  # 36 is the next whole picture


# The data themselves.


def sei(*payload: int) -> bytes:
    return bytes([6, *payload])


INTRA = bytes([0x41, 0x88, 0xAB])
SLICE, IDR = bytes([0x41, 0x9A, 0x02]), bytes([0x65, 0x88, 0x84])
DROPPABLE, DELIMITER = bytes([0x01, 0x9A, 0x02]), bytes([9, 0xF0])
REFRESH, WHOLE = sei(6, 2, 0x3C, 0x40, 0x80), sei(6, 1, 0xC4, 0x80)  # recovery_frame_cnt 6 and 0


def packed(units: list[bytes], lengths: int) -> bytes:
    return b"".join((len(u).to_bytes(lengths, "big") if lengths else b"\x00\x00\x01") + u for u in units)


@pytest.mark.parametrize("lengths", [0, 2, 4])
@pytest.mark.parametrize(
    ("units", "begins"),
    [
        ([DELIMITER, REFRESH, INTRA], True),
        ([REFRESH, IDR], False),
        ([sei(*[5, 0xFF, 1, *[7] * 256], *REFRESH[1:]), INTRA], True),  # after a message of 256 bytes
        ([WHOLE, INTRA], False),
        ([WHOLE, SLICE], True),
        ([INTRA, REFRESH], False),  # belongs to another picture
        ([IDR], False),
        ([SLICE], True),
        ([sei(6, 6, 0, 0, 3, 1, 0x55, 0x55, 0x80, 0x80), INTRA], True),  # 3 keeps zeros apart
        ([sei(6, 4, 0, 0, 3, 1, 0x55, 0x80), INTRA], False),  # cut off: 23 zeros, and fewer bits follow
        ([sei(6), INTRA], False),
        ([sei(6, 200, 0x3C), INTRA], False),
        ([sei(0xFF, 0xFF), INTRA], False),
        ([sei(6, 0), INTRA], False),
        ([sei(6, 1, 0), INTRA], False),
        ([SLICE[:1]], False),
        ([], False),
    ],
    ids=str,
)
def test_the_beginning_of_a_refresh_is_known_by_its_recovery_point_or_its_slices(units, begins, lengths):
    assert begins_refresh(packed(units, lengths), lengths) == begins


@pytest.mark.parametrize("lengths", [0, 2, 4])
def test_a_picture_is_unreferenced_if_none_of_its_slices_is_a_reference(lengths):
    assert unreferenced(packed([DELIMITER, DROPPABLE, DROPPABLE], lengths), lengths)
    assert not unreferenced(packed([DROPPABLE, SLICE], lengths), lengths)
    assert not unreferenced(packed([DELIMITER, WHOLE], lengths), lengths)
    assert not unreferenced(packed([IDR], lengths), lengths)
    assert not unreferenced(bytes(20), lengths)


def test_a_packet_with_lengths_that_do_not_fit_is_not_called_unreferenced():
    packet = packed([DROPPABLE, DROPPABLE], 4)
    assert not unreferenced(packet[:-1], 4)
    assert not unreferenced(packet + b"\x00", 4)


@given(st.binary(max_size=80), st.sampled_from([0, 1, 2, 3, 4]), st.booleans())
def test_no_data_make_the_search_fail(data, lengths, begin_as_sei):
    packet = packed([b"\x06\x06" + data], lengths)[:81] if begin_as_sei and lengths != 1 else data
    assert begins_refresh(packet, lengths) in (True, False)
    assert unreferenced(packet, lengths) in (True, False)


@pytest.mark.parametrize("damage", [b"\xff", b"\x00", b"\x06", b"\x80"])
def test_a_damaged_recovery_point_does_not_stop_the_scan(tmp_path, damage):
    path = clip(tmp_path / "clip.mp4", "refresh 40")
    data = path.read_bytes()
    for at in range(1, len(REFRESH)):
        path.write_bytes(data.replace(REFRESH, REFRESH[:at] + damage + REFRESH[at + 1 :]))
        assert scan(path).frames == N


def test_the_configuration_tells_how_nal_units_are_packed():
    assert length_size(bytes([1, 100, 0, 10, 0xFF, 0xE1])) == 4
    assert length_size(bytes([1, 100, 0, 10, 0xFD, 0xE1])) == 2
    assert length_size(b"\x00\x00\x01\x67\x64\x00") == 0
    assert length_size(b"") == length_size(None) == length_size(b"\x01") == 0
