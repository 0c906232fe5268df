"""The choice of a reader: the default reads everything, the others are refused where they would be wrong."""

from __future__ import annotations

import sys
import weakref
from fractions import Fraction

import pytest
import torch

from stsimdiff_cli.errors import RequestError, VideoError
from stsimdiff_cli.video import READERS, decoder_for, read_frames, scan
from tests.support.clip_factory import (
    CLOSED_GOP,
    INTRA_REFRESH,
    OPEN_GOP,
    has_encoder,
    paint,
    read_number,
    render,
    spoil,
    trim,
    truncate,
    turn,
)

N = 60
NO_B_FRAMES = {"x264-params": "keyint=12:bframes=0"}

RIGHT = {  # files on which every reader is right
    "closed.mp4": lambda p: render(p, options=CLOSED_GOP, audio=True),
    "closed.mkv": lambda p: render(p, options=CLOSED_GOP),
    "variable.mp4": lambda p: render(
        p, ticks=[i * i for i in range(N)], tick=Fraction(1, 600), options={"x264-params": "keyint=9:bframes=0"}
    ),
    "turned.mp4": lambda p: turn(render(p, options=CLOSED_GOP), (0, 1, -1, 0)),
    "odd.mp4": lambda p: render(p, size=(131, 97), pix_fmt="yuv444p", options=CLOSED_GOP),
}
AWKWARD = {
    "open.mp4": (lambda p: render(p, options=OPEN_GOP), {"decord": "open GOPs"}),
    "closed.ts": (lambda p: render(p, options=CLOSED_GOP), {"decord": "MPEG-TS", "torchcodec": "MPEG-TS"}),
    "mpeg2.mpg": (
        lambda p: render(p, codec="mpeg2video", format="vob"),
        {"decord": "MPEG-PS", "torchcodec": "MPEG-PS"},
    ),
    "cut.mp4": (
        lambda p: trim(render(p, options=CLOSED_GOP), 0.5),
        {"decord": "edit list", "torchcodec": "edit list"},
    ),
    "counted.avi": (
        lambda p: render(p, options=CLOSED_GOP),
        {"decord": "no usable times", "torchcodec": "no usable times"},
    ),
    "refresh.mp4": (
        lambda p: render(p, options=INTRA_REFRESH),
        {"decord": "refreshed gradually", "torchcodec": "refreshed gradually"},
    ),
    "short.mp4": (
        lambda p: truncate(render(p, options=CLOSED_GOP, container_options={"movflags": "+faststart"}), 0.7),
        {"decord": "ends early", "torchcodec": "ends early"},
    ),
    "wmv2.asf": (lambda p: render(p, codec="wmv2"), {"decord": "not found right on wmv2"}),
    "flv1.flv": (lambda p: render(p, codec="flv"), {"decord": "not found right on flv1?"}),
    "mirrored.mp4": (
        lambda p: turn(render(p, options=CLOSED_GOP), (-1, 0, 0, 1)),
        {"decord": "mirrored", "torchcodec": "mirrored"},
    ),
}
if has_encoder("libx265"):
    hevc = {"codec": "libx265", "options": {"x265-params": "keyint=12:log-level=none"}}
    AWKWARD["hevc.mp4"] = (lambda p: render(p, **hevc), {"decord": "open GOPs"})


def available(decoder: str) -> str:
    try:
        READERS.load(decoder).require()
    except RequestError as error:
        pytest.skip(str(error))
    return decoder


@pytest.mark.parametrize("name", AWKWARD)
def test_auto_is_pyav_for_every_file(tmp_path, name):
    scanned = scan(AWKWARD[name][0](tmp_path / name))
    assert decoder_for(scanned) == decoder_for(scanned, "auto") == decoder_for(scanned, "pyav") == "pyav"


@pytest.mark.parametrize("decoder", ["decord", "torchcodec"])
@pytest.mark.parametrize("name", RIGHT)
def test_another_reader_gives_the_same_frames_where_it_is_admitted(tmp_path, name, decoder):
    path = RIGHT[name](tmp_path / name)
    scanned = scan(path)
    assert decoder_for(scanned, available(decoder)) == decoder
    indices = (0, 7, 8, 25, 26, 40, 59)
    ours = list(read_frames(path, scanned, indices, 3))
    theirs = list(read_frames(path, scanned, indices, 3, decoder))
    assert [t.seconds for t in theirs] == [o.seconds for o in ours]
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.pixels.int() - other.pixels.int()).abs().float().mean() < 2
    if name != "turned.mp4":
        assert [read_number(p.numpy()) for t in theirs for p in t.pixels] == list(indices)


@pytest.mark.parametrize(
    ("name", "decoder"), [(n, d) for n, (_, reasons) in AWKWARD.items() for d in reasons], ids=lambda x: x
)
def test_a_reader_is_refused_for_a_file_on_which_it_would_be_wrong(tmp_path, name, decoder):
    make, reasons = AWKWARD[name]
    scanned = scan(make(tmp_path / name))
    with pytest.raises(RequestError, match=reasons[decoder]) as caught:
        decoder_for(scanned, decoder)
    assert f"--decoder {decoder}" in str(caught.value)
    assert caught.value.hint == "Use --decoder auto."


@pytest.mark.parametrize("decoder", ["decord", "torchcodec"])
def test_a_reader_that_is_not_installed_is_refused_with_the_way_to_install_it(tmp_path, decoder, monkeypatch):
    for module in [m for m in sys.modules if m == decoder or m.startswith(f"{decoder}.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, decoder, None)
    scanned = scan(render(tmp_path / "clip.mp4", range(3), options=NO_B_FRAMES))
    with pytest.raises(RequestError, match="not installed") as caught:
        read_frames(tmp_path / "clip.mp4", scanned, [0], decoder=decoder)
    assert "pip install" in caught.value.hint


def test_an_unknown_reader_is_refused_with_the_nearest_name(tmp_path):
    scanned = scan(render(tmp_path / "clip.mp4", range(3)))
    with pytest.raises(RequestError, match="no video reader named 'decrod'") as caught:
        decoder_for(scanned, "decrod")
    assert "'decord'" in caught.value.hint


@pytest.mark.parametrize("decoder", ["decord", "torchcodec"])
def test_damage_is_an_error_for_readers_that_would_paint_over_it(tmp_path, decoder):
    path = spoil(render(tmp_path / "damaged.mp4", options=CLOSED_GOP), 30)
    scanned = scan(path)
    with pytest.raises(VideoError, match=f"{decoder} cannot read") as caught:
        list(read_frames(path, scanned, range(N), 100, available(decoder)))
    assert "--decoder auto" in caught.value.hint


def test_no_decord_reader_is_open_while_frames_are_worked_on(tmp_path, monkeypatch):
    available("decord")
    import decord

    opened = []

    class Watched(decord.VideoReader):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            opened.append(weakref.ref(self))

    monkeypatch.setattr(decord, "VideoReader", Watched)
    path = render(tmp_path / "clip.mp4", options=CLOSED_GOP)
    for _ in read_frames(path, scan(path), range(0, N, 6), 4, "decord"):
        assert all(reader() is None for reader in opened)
    assert len(opened) == 3


def test_decords_frames_do_not_depend_on_the_bridge_that_another_library_has_set(tmp_path):
    available("decord")
    import decord

    path = render(tmp_path / "clip.mp4", options=CLOSED_GOP)
    scanned = scan(path)
    plain = next(read_frames(path, scanned, [0, 30], decoder="decord")).pixels
    decord.bridge.set_bridge("torch")
    try:
        bridged = next(read_frames(path, scanned, [0, 30], decoder="decord")).pixels
    finally:
        decord.bridge.set_bridge("native")
    assert torch.equal(plain, bridged)
    assert read_number(plain[1].numpy()) == 30
    assert paint(30).shape == plain[1].shape
