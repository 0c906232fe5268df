"""Several workers deliver what one delivers: the same frames in order, the same missing ones, the same errors."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import threading
import time
import weakref
from pathlib import Path

import av.logging
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stsimdiff_cli.errors import RequestError, VideoError
from stsimdiff_cli.stages.overlap import Ahead
from stsimdiff_cli.video import dividing, read_frames, reading, scan
from stsimdiff_cli.video.decoding import Decoding
from stsimdiff_cli.video.dividing import Division, divide, workers_for
from stsimdiff_cli.video.pyav_reader import PyavReader
from stsimdiff_cli.video.workers import Workers
from tests.support.awkward_clips import RECIPES, WORSE, N, make_clip
from tests.support.clip_factory import CLOSED_GOP, read_number, render, spoil
from tests.support.decoding import decode_with, distrust


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """clip(name) renders the clip of that name, once."""
    folder = tmp_path_factory.mktemp("clips")
    os.environ.setdefault("SVT_LOG", "0")
    return lambda name: make_clip(folder / name)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Every group of pictures is worth a part of its own."""
    monkeypatch.setattr(dividing, "LEAST", 1)


@pytest.fixture(autouse=True)
def nothing_is_left():
    """No worker outlives its test, and FFmpeg's log is as it was."""
    log = av.logging.get_level()
    yield
    assert workers_alive() == []
    assert av.logging.get_level() == log


def workers_alive() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith(("decode", "ahead"))]


def outcome(path: Path, indices, chunk: int = 8, workers: int = 1) -> list:
    """What reading delivers: pixels, seconds and missing seconds of every chunk, and the error at the end."""
    chunks: list = []
    try:
        for frames in read_frames(path, scan(path), indices, chunk, workers=workers):
            chunks.append((frames.pixels.numpy().tobytes(), frames.seconds, frames.missing_seconds))
    except VideoError as error:
        chunks.append((str(error), error.hint))
    return chunks


# The same as with one worker.


@pytest.mark.parametrize("name", [*RECIPES, *WORSE])
def test_workers_deliver_what_one_delivers(clip, name, capfd):
    path = clip(name)
    frames = scan(path).frames
    some = sorted(np.random.default_rng(0).choice(frames, min(frames, 12), replace=False).tolist())
    capfd.readouterr()
    for indices, chunk in ((range(frames), 8), (range(0, frames, 7), 2), (some, 5), ([frames - 1], 1)):
        alone = outcome(path, indices, chunk)
        for workers in (2, 3, 8):
            assert outcome(path, indices, chunk, workers) == alone, f"{workers} workers, {indices}"
    assert capfd.readouterr().err == ""  # what FFmpeg complains of is not printed


@pytest.mark.parametrize("threads", [2, 4])
@pytest.mark.parametrize("name", [*RECIPES, *WORSE])
def test_threads_deliver_what_one_delivers(clip, name, threads, monkeypatch):
    path = clip(name)
    indices = range(0, scan(path).frames, 3)
    alone = outcome(path, indices)
    decode_with(monkeypatch, threads)
    assert outcome(path, indices) == alone
    assert outcome(path, indices, workers=2) == alone


@pytest.mark.parametrize("bad", [11, 12, 13, 24, 35])
def test_damage_is_found_whatever_was_read_before(tmp_path, bad):
    path = spoil(render(tmp_path / "bad.mp4", options=CLOSED_GOP), bad)
    alone = outcome(path, range(N))
    for _ in range(5):  # which worker reads which part depends on chance
        assert outcome(path, range(N), workers=2) == alone
        assert outcome(path, range(N), workers=3) == alone


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(["open.mp4", "bad open.mp4", "pyramid.ts", "bad key.mp4", "mpeg4.avi"]),
    st.sets(st.integers(0, 59), min_size=1),
    st.integers(1, 9),
    st.integers(2, 8),
)
def test_any_frames_in_any_chunks_by_any_number_of_workers(clip, name, chosen, chunk, workers):
    path = clip(name)
    indices = sorted(i for i in chosen if i < scan(path).frames)
    assert outcome(path, indices, chunk, workers) == outcome(path, indices, chunk)


def test_chunks_come_in_order_even_if_the_first_part_takes_longest(clip, monkeypatch):
    read = PyavReader.read

    def slow(self, indices, pixels):
        time.sleep(0.3 if indices[0] < 12 else 0)
        return read(self, indices, pixels)

    monkeypatch.setattr(PyavReader, "read", slow)
    path = clip("closed.mp4")
    numbers = [read_number(p.numpy()) for f in read_frames(path, scan(path), range(N), workers=4) for p in f.pixels]
    assert numbers == list(range(N))


# Files that cannot be entered where a part begins.


def test_where_a_seek_fails_one_worker_goes_on_alone_from_the_beginning(clip, monkeypatch):
    enter = Decoding._enter
    monkeypatch.setattr(Decoding, "_enter", lambda self, entry: entry < 24 and enter(self, entry))
    path = clip("closed.mp4")
    alone = outcome(path, range(N))
    assert [len(chunk[1]) for chunk in alone] == [8] * 7 + [4]
    for workers in (2, 3, 8):
        assert outcome(path, range(N), workers=workers) == alone


class Losing:
    """A reader that loses its way at frame 0, and says so late. What it reads then is 1, else 0."""

    went_wrong = False

    @property
    def lost(self) -> bool:
        if self.went_wrong:
            time.sleep(0.05)
        return self.went_wrong

    def read(self, indices, pixels) -> list[bool]:
        if 0 in indices:
            time.sleep(0.05)  # the other worker has read the other frame
            self.went_wrong = True
        pixels[...] = int(self.went_wrong)
        return [True] * len(indices)

    def cancel(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_what_another_worker_read_after_a_seek_that_failed_is_never_handed_on():
    division = Division((range(0, 1), range(1, 2)), workers=2, threads=1, ahead=4)
    workers = Workers(Losing, division, [0, 1], 1, (1, 1))
    try:
        assert [workers.chunk(number)[0].unique().item() for number in (0, 1)] == [1, 1]
    finally:
        workers.close()


def test_packets_that_are_not_those_of_the_scan_are_not_trusted_by_any_worker(clip, monkeypatch):
    distrust(monkeypatch, 40)
    path = clip("open.mp4")
    numbers = [read_number(p.numpy()) for f in read_frames(path, scan(path), range(N), workers=3) for p in f.pixels]
    assert numbers == list(range(N))


# Memory.


@pytest.mark.parametrize("workers", [2, 3])
def test_no_more_than_two_chunks_a_worker_exist_at_a_time(clip, workers, monkeypatch):
    alive: weakref.WeakSet = weakref.WeakSet()
    most = []
    empty = torch.empty

    def watched(*size, **settings):
        made = empty(*size, **settings)
        alive.add(made)
        most.append(len(alive))
        return made

    monkeypatch.setattr("stsimdiff_cli.video.workers.torch.empty", watched)
    path = clip("intra.mp4")
    for frames in read_frames(path, scan(path), range(N), 2, workers=workers):
        time.sleep(0.01)  # the workers would get ahead if they could
        del frames
    assert len(most) == N // 2
    assert workers < max(most) <= 2 * workers


def test_memory_limits_workers_and_chunks(clip, monkeypatch):
    scanned = scan(clip("closed.mp4"))
    plenty = divide(scanned, range(N), 8, 8)
    assert (plenty.workers, plenty.threads, plenty.ahead) == (5, 1, 16)
    picture = 3 * 128 * 96
    monkeypatch.setattr(dividing, "available_memory", lambda: 4 * 2 * 3 * 24 * picture)
    scarce = divide(scanned, range(N), 8, 8)
    assert (scarce.workers, scarce.ahead) == (3, 6)
    monkeypatch.setattr(dividing, "available_memory", lambda: 0)
    assert divide(scanned, range(N), 8, 8).workers == 1


# How frames are divided.


def test_parts_are_groups_of_pictures_and_cover_all_frames(clip):
    scanned = scan(clip("closed.mp4"))
    division = divide(scanned, range(N), 8, 2)
    assert division.parts == (range(12), range(12, 24), range(24, 36), range(36, 48), range(48, 60))
    assert (division.workers, division.threads) == (2, 1)


def test_small_groups_are_joined_until_they_are_worth_a_part(clip, monkeypatch):
    monkeypatch.setattr(dividing, "LEAST", 24)
    scanned = scan(clip("closed.mp4"))
    assert len(divide(scanned, range(0, N, 6), 8, 4).parts) == 2


def test_cores_that_no_group_is_left_for_become_threads(clip):
    one = divide(scan(clip("one group.mp4")), range(N), 8, 4)
    assert (len(one.parts), one.workers, one.threads) == (1, 1, 4)
    two = divide(scan(clip("closed.mp4")), (3, 50), 8, 4)
    assert (len(two.parts), two.workers, two.threads) == (2, 2, 2)


def test_groups_far_longer_than_the_chunks_are_decoded_by_threads(tmp_path):
    path = render(tmp_path / "long.mp4", range(240), options={"x264-params": "keyint=120:scenecut=0"})
    dense = divide(scan(path), range(240), 2, 2)
    assert (dense.workers, dense.threads) == (1, 2)
    sparse = divide(scan(path), range(0, 240, 40), 2, 2)
    assert (sparse.workers, sparse.threads) == (2, 1)
    assert outcome(path, range(0, 240, 5), 2, 2) == outcome(path, range(0, 240, 5), 2)


@pytest.mark.parametrize("name", ["raw.h264", "one group.mp4"])
def test_what_cannot_be_divided_is_read_by_one_worker(clip, name):
    assert divide(scan(clip(name)), range(N), 8, 8).workers == 1


def test_codecs_that_are_listened_to_are_decoded_without_threads(clip):
    division = divide(scan(clip("mpeg4.avi")), range(N), 8, 8)
    if division.workers > 1:
        assert division.threads == 1
    assert outcome(clip("mpeg4.avi"), range(N), 8, 8) == outcome(clip("mpeg4.avi"), range(N))


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60))
def test_groups_share_no_key_packet_and_lie_one_after_the_other(entries):
    starts, ends = dividing._groups(np.array(entries))
    assert [*starts, len(entries)] == [0, *ends]
    for a, b in itertools.pairwise(ends):
        assert max(entries[:a]) < min(entries[a:b])


def test_the_default_leaves_a_core_to_the_model(monkeypatch):
    for count, workers in ((1, 1), (2, 1), (8, 7)):
        monkeypatch.setattr(dividing, "cores", lambda count=count: count)
        assert workers_for(None) == workers
    assert workers_for(5) == 5
    with pytest.raises(RequestError, match="0 workers"):
        workers_for(0)


def test_other_readers_decode_with_one_worker(clip, monkeypatch):
    monkeypatch.setattr(reading, "decoder_for", lambda scan, wanted: "decord")
    path = clip("closed.mp4")
    with pytest.raises(RequestError, match="decord cannot decode with 2 workers"):
        read_frames(path, scan(path), [0], workers=2)


# Errors and interrupts.


def failing_at(number: int):
    """`PyavReader.read` that fails at a frame."""
    read = PyavReader.read

    def fail(self, indices, pixels):
        if number in indices:
            raise MemoryError("no room")
        return read(self, indices, pixels)

    return fail


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_an_error_comes_in_the_place_of_its_chunk_and_ends_all_workers(clip, workers, monkeypatch):
    monkeypatch.setattr(PyavReader, "read", failing_at(30))
    path, numbers = clip("closed.mp4"), []
    with pytest.raises(MemoryError, match="no room"):
        for frames in read_frames(path, scan(path), range(N), 4, workers=workers):
            numbers += [read_number(p.numpy()) for p in frames.pixels]
    assert numbers == list(range(28))
    assert workers_alive() == []


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_reader_that_cannot_be_opened_is_an_error(clip, workers, monkeypatch):
    path = clip("closed.mp4")
    scanned = scan(path)

    def refuse(self):
        raise VideoError("It is gone.")

    monkeypatch.setattr(Decoding, "_begin", refuse)
    with pytest.raises(VideoError, match="gone"):
        list(read_frames(path, scanned, range(N), workers=workers))


def test_a_file_that_changes_while_workers_read_it_is_noticed(tmp_path):
    path = render(tmp_path / "clip.mp4", options=CLOSED_GOP)
    scanned = scan(path)
    render(path, range(500, 500 + N), options={"x264-params": "keyint=9:bframes=0"})
    with pytest.raises(VideoError, match="changed while it was read"):
        list(read_frames(path, scanned, range(N), workers=3))


def slowly(monkeypatch, seconds: float) -> None:
    feed = Decoding._feed
    monkeypatch.setattr(Decoding, "_feed", lambda self: (time.sleep(seconds), feed(self))[1])


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("how", ["close", "cancel", "interrupt", "forget"])
def test_reading_that_is_given_up_ends_at_once_and_leaves_nothing(clip, workers, how, monkeypatch):
    path = clip("closed.mp4")
    chunks = read_frames(path, scan(path), range(N), 4, workers=workers)
    next(chunks)
    slowly(monkeypatch, 0.1)  # 5 s for the rest
    start = time.perf_counter()
    if how == "interrupt":
        main = threading.main_thread().ident
        threading.Timer(0.2, lambda: signal.pthread_kill(main, signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            list(chunks)
    elif how == "close":
        chunks.close()
    elif how == "cancel":
        chunks.cancel()
        assert list(chunks) == []
        chunks.close()
    del chunks
    gc.collect()
    while workers_alive() and time.perf_counter() < start + 5:
        time.sleep(0.01)
    assert time.perf_counter() - start < 2
    assert path not in open_files()


def open_files() -> list[Path]:
    folder = Path("/proc/self/fd")
    return [fd.resolve() for fd in folder.iterdir()] if folder.exists() else []


@pytest.mark.parametrize("workers", [1, 3])
def test_frames_made_ahead_end_at_once_when_their_user_stops(clip, workers, monkeypatch):
    path = clip("closed.mp4")
    ahead = Ahead(read_frames(path, scan(path), range(N), 12, workers=workers))
    next(ahead)
    slowly(monkeypatch, 0.2)  # more than 2 s for a chunk
    time.sleep(0.3)
    start = time.perf_counter()
    ahead.close()
    assert time.perf_counter() - start < 1.5
    assert workers_alive() == []
    assert path not in open_files()
