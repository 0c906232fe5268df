"""Damage is told: files that end early, holes, and decoders that complain in FFmpeg's log alone."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import av
import numpy as np
import pytest

from stsimdiff_cli.video import read_frames, scan
from stsimdiff_cli.video.endings import ends_early
from stsimdiff_cli.video.ffmpeg_log import listening, not_threaded, threaded
from tests.support.clip_factory import CLOSED_GOP, has_encoder, read_number, render, spoil
from tests.support.decoding import decode_with

N = 60
VP9 = {"deadline": "realtime", "cpu-used": "8", "g": "20", "threads": "1"}

CLIPS = {
    "moov first.mp4": lambda p: render(p, options=CLOSED_GOP, container_options={"movflags": "+faststart"}),
    "fragmented.mp4": lambda p: render(p, container_options={"movflags": "frag_keyframe+empty_moov"}),
    "plain.mkv": lambda p: render(p, options=CLOSED_GOP, audio=True),
    "live.webm": lambda p: render(p, codec="libvpx-vp9", options=VP9, container_options={"live": "1"}),
    "plain.avi": lambda p: render(p, codec="mpeg4"),
    "plain.asf": lambda p: render(p, codec="wmv2"),
    "plain.flv": lambda p: render(p, codec="flv"),
    "plain.ivf": lambda p: render(p, codec="libvpx", options=VP9),
    "plain.ogv": lambda p: render(p, codec="libvpx", options=VP9, format="ogg"),
    "plain.gif": lambda p: render(p, codec="gif", pix_fmt="rgb8"),
    "plain.apng": lambda p: render(p, codec="apng", pix_fmt="rgb24"),
    "plain.ts": lambda p: render(p, options=CLOSED_GOP),
    "plain.m2ts": lambda p: render(p, options=CLOSED_GOP, format="mpegts", container_options={"mpegts_m2ts_mode": "1"}),
    "plain.mpg": lambda p: render(p, codec="mpeg2video", format="vob"),
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """clip(name) renders the clip of that name, once."""
    folder = tmp_path_factory.mktemp("clips")

    def make(name: str) -> Path:
        if name.endswith(("webm", "ivf", "ogv")) and not has_encoder("libvpx-vp9"):
            pytest.skip("this build of PyAV cannot encode VP8 and VP9")
        path = folder / name
        return path if path.exists() else CLIPS[name](path)

    return make


@pytest.mark.parametrize("name", CLIPS)
def test_a_whole_file_does_not_end_early(clip, name):
    scanned = scan(clip(name))
    assert scanned.frames == N
    assert scanned.notes == ()


@pytest.mark.parametrize("name", CLIPS)
def test_a_file_that_is_cut_anywhere_ends_early(clip, name, tmp_path):
    container, data = scan(clip(name)).container, clip(name).read_bytes()
    path = tmp_path / name
    for share in random.Random(name).choices(range(300, 990), k=40):
        part = data[: len(data) * share // 1000]
        path.write_bytes(part)
        between_packets = container == "mpegts" and len(part) % (192 if "m2ts" in name else 188) == 0
        assert ends_early(path, container) or between_packets, f"{share} of 1000"


@pytest.mark.parametrize("name", ["plain.mkv", "live.webm", "plain.asf", "plain.ts", "plain.gif"])
def test_a_scan_says_that_a_file_ends_early(clip, name, tmp_path):
    path = tmp_path / name
    path.write_bytes(clip(name).read_bytes()[: int(0.6 * clip(name).stat().st_size)])
    scanned = scan(path)
    assert scanned.frames < N
    assert "ends early" in scanned.notes[0]


@pytest.mark.parametrize("name", ["plain.avi", "plain.asf", "plain.mpg"])
def test_random_bytes_are_no_reason_to_fail(name, clip, tmp_path):
    dice, data = random.Random(0), bytearray(clip(name).read_bytes())
    data[-300:] = dice.randbytes(300)
    path = tmp_path / name
    path.write_bytes(data)
    assert ends_early(path, scan(clip(name)).container) in (True, False)


def test_frames_lost_between_two_places_of_a_matroska_file_are_told(clip, tmp_path):
    data = bytearray(clip("plain.mkv").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = random.Random(1).randbytes(2000)
    path = tmp_path / "noisy.mkv"
    path.write_bytes(data)
    scanned = scan(path)
    assert scanned.broken
    assert "is damaged around" in scanned.notes[0]


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("bad", [1, 5, 15, 26, 40])
def test_a_picture_damaged_in_part_is_missing_with_all_that_is_made_from_it(tmp_path, monkeypatch, bad, threads):
    whole = render(tmp_path / "whole.mp4", options=CLOSED_GOP)
    with av.open(str(whole)) as container:
        intact = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        container.seek(0)
        packet = [packet for packet in container.demux(video=0) if packet.size][bad]
        begin, end = packet.pos + packet.size * 2 // 3, packet.pos + packet.size
    data = bytearray(whole.read_bytes())
    data[begin:end] = random.Random(bad).randbytes(end - begin)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    decode_with(monkeypatch, threads)
    missing = 0
    for frames in read_frames(path, scan(path), range(N)):
        missing += len(frames.missing_seconds)
        for second, picture in zip(frames.seconds, frames.pixels.numpy(), strict=True):
            assert np.abs(picture - intact[round(30 * second)].astype(np.float32)).mean() < 1
    assert 3 <= missing <= 12  # this picture, and some of its group


@pytest.mark.skipif(not has_encoder("libvpx-vp9"), reason="this build of PyAV cannot encode VP9")
@pytest.mark.parametrize("threads", [1, 4])
def test_frames_of_which_only_the_log_says_that_they_are_damaged_are_missing(tmp_path, monkeypatch, threads):
    decode_with(monkeypatch, threads)
    path = render(tmp_path / "noisy.mp4", codec="libvpx-vp9", options=VP9)
    dice = random.Random(3)
    spoil(path, 24, 25, 26, fill=lambda size: bytes([0x86]) + dice.randbytes(size - 1))
    numbers, missing = [], 0
    for frames in read_frames(path, scan(path), range(N)):
        numbers += [read_number(p.numpy()) for p in frames.pixels]
        missing += len(frames.missing_seconds)
    assert missing > 0
    assert None not in numbers
    assert len(numbers) + missing == N


# FFmpeg's log.


def _complain() -> None:
    """Make FFmpeg write an error to its log."""
    try:
        av.open("file:/there/is/no/such/file", options={"protocol_whitelist": "file"})
    except av.FFmpegError:
        av.logging.log(av.logging.ERROR, "test", "a complaint")


def test_the_log_is_heard_and_left_as_it_was():
    before = av.logging.get_level(), av.logging.get_skip_repeated()
    with listening() as outer:
        with listening() as inner:
            _complain()
            _complain()
        assert [text for _, _, text in inner] == ["a complaint"] * 2
        assert av.logging.get_level() == av.logging.ERROR
    assert outer == []
    assert (av.logging.get_level(), av.logging.get_skip_repeated()) == before


def test_each_thread_hears_its_own_errors():
    heard: dict[str, list] = {}
    both = threading.Barrier(2)

    def work(name: str, times: int) -> None:
        with listening() as log:
            both.wait()
            for _ in range(times):
                _complain()
            both.wait()
            heard[name] = list(log)

    threads = [threading.Thread(target=work, args=(n, t)) for n, t in (("one", 3), ("two", 5))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: len(log) for name, log in heard.items()} == {"one": 3, "two": 5}


def test_the_log_is_off_while_a_decoder_has_threads_of_its_own():
    assert threaded()
    try:
        with listening() as log:
            _complain()
            assert av.logging.get_level() is None
        assert log == []
    finally:
        not_threaded()
    with listening():
        assert not threaded()


def test_reading_that_is_forgotten_gives_the_log_back(clip, monkeypatch):
    path = clip("plain.mkv")
    decode_with(monkeypatch, 4)
    chunks = read_frames(path, scan(path), range(0, N, 2))
    next(chunks)
    assert not _heard()
    del chunks
    assert _heard()


def _heard() -> bool:
    with listening() as log:
        _complain()
    return bool(log)


def test_the_seconds_of_a_note_are_those_of_the_damage(clip, tmp_path):
    data = clip("plain.mkv").read_bytes()
    with av.open(str(clip("plain.mkv"))) as container:
        at = [p.pos for p in container.demux(video=0) if p.size][45]
    noisy = bytearray(data)
    noisy[at - 20 : at + 400] = random.Random(2).randbytes(420)
    path = tmp_path / "noisy.mkv"
    path.write_bytes(noisy)
    scanned = scan(path)
    assert scanned.broken
    assert np.abs(scanned.seconds[np.minimum(scanned.broken, scanned.frames - 1)] - 1.5).min() < 0.5
