"""Choosing frames: which ones, by count, by rate and of a part."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stsimdiff_cli.errors import RequestError
from stsimdiff_cli.video import SPREADS, Sampling, Scan, choose_frames
from stsimdiff_cli.video.orientation import UPRIGHT
from stsimdiff_cli.video.packets import Packets


def clip_of(seconds, tick: float = 1 / 15360, last: float | None = None) -> Scan:
    """A scan of a clip whose frames appear at `seconds`; the last one stays for `last` seconds."""
    seconds = np.asarray(seconds, float)
    n = len(seconds)
    last = last if last is not None else (float(np.median(np.diff(seconds))) if n > 1 else 0.04)
    none, yes = np.zeros(n, np.int64), np.ones(n, bool)
    return Scan(
        container="mp4",
        codec="h264",
        stored_size=(16, 16),
        orientation=UPRIGHT,
        seconds=seconds,
        duration=float(seconds[-1]) + last,
        tick=tick,
        packets=Packets(np.arange(n), np.arange(n), none, none, yes, ~yes, ~yes),
        position=np.arange(n),
        entry=np.arange(n),
        counted=None,
        cut_short=False,
    )


THIRTY = clip_of(np.arange(300) / 30)  # 10 s
MATROSKA = clip_of(np.round(np.arange(300) / 30, 3), tick=0.001)
AVI = clip_of(np.arange(300) / 30, tick=1 / 30)
SLIDES = clip_of([0, 5, 5.1, 5.2, 60], last=3)

clips = st.lists(st.integers(1, 50), min_size=1, max_size=80).map(lambda gaps: clip_of(np.cumsum([0, *gaps]) / 100))


def test_frames_are_uniform_with_both_ends_as_numpy_linspace_puts_them():
    assert choose_frames(THIRTY, Sampling(4)) == (0, 99, 199, 299)
    assert choose_frames(THIRTY, Sampling(32)) == tuple(np.linspace(0, 299, 32, dtype=int))
    assert choose_frames(THIRTY, Sampling(1)) == (0,)
    assert len(choose_frames(THIRTY, Sampling())) == 32


@pytest.mark.parametrize("spread", SPREADS)
@given(clip=clips, count=st.integers(1, 90))
@settings(max_examples=60, deadline=None)
def test_every_models_way_gives_frames_that_increase_strictly(spread, clip, count):
    chosen = choose_frames(clip, Sampling(count, spread=spread))
    assert len(chosen) == min(count, clip.frames) and sorted(set(chosen)) == list(chosen)
    assert chosen[0] >= 0 and chosen[-1] < clip.frames


def test_frames_are_spread_as_the_authors_of_the_models_do_it():
    """By hand: 300 frames, 8 of them. InternVL takes the middles of parts of 299 / 8 = 37.375 frames."""
    expected = {
        "truncated": (0, 42, 85, 128, 170, 213, 256, 299),  # 42.71 apart
        "rounded": (0, 43, 85, 128, 171, 214, 256, 299),
        "rounded-float32": (0, 43, 85, 128, 171, 214, 256, 299),
        "middles": (18, 55, 93, 130, 168, 205, 242, 280),
        "starts": (0, 37, 75, 112, 150, 187, 225, 262),  # 37.5 apart
    }
    assert {spread: choose_frames(THIRTY, Sampling(8, spread=spread)) for spread in SPREADS} == expected


def test_half_a_frame_depends_on_the_precision_of_the_model():
    found = [(n, k) for n in range(3, 200) for k in range(1000, 1100) if _differ(n, k)]
    assert found, "the two would be the same rule"
    count, frames = found[0]
    clip = clip_of(np.arange(frames) / 30)
    assert choose_frames(clip, Sampling(count, spread="rounded-float32")) == tuple(
        torch.linspace(0, frames - 1, count).round().long().tolist()
    )


def _differ(count: int, frames: int) -> bool:
    one, other = (SPREADS[name](0, frames - 1, count) for name in ("rounded", "rounded-float32"))
    return bool((one != other).any())


def test_frames_of_a_clip_of_varying_rate_are_uniform_over_frames_not_time():
    assert choose_frames(SLIDES, Sampling(3)) == (0, 2, 4)


def test_a_clip_with_fewer_frames_than_asked_for_gives_all_of_them():
    assert choose_frames(clip_of([0, 0.1, 0.2]), Sampling(32)) == (0, 1, 2)
    assert choose_frames(clip_of([0]), Sampling(32)) == (0,)


@settings(deadline=None)  # the machine may be busy
@given(clips, st.integers(1, 100))
def test_chosen_frames_increase_strictly_and_never_leave_the_clip(clip, count):
    chosen = choose_frames(clip, Sampling(count))
    assert len(chosen) == min(count, clip.frames)
    assert list(chosen) == sorted(set(chosen))
    assert chosen[0] == 0
    assert chosen[-1] == (clip.frames - 1 if count > 1 else 0)
    assert all(type(i) is int for i in chosen)


@pytest.mark.parametrize("clip", [THIRTY, MATROSKA, AVI], ids=["mp4", "matroska", "avi"])
@pytest.mark.parametrize(("rate", "every"), [(1, 30), (2, 15), (10, 3), (15, 2), (30, 1)])
def test_a_rate_that_divides_the_clips_takes_every_nth_frame(clip, rate, every):
    assert choose_frames(clip, Sampling(fps=rate)) == tuple(range(0, 300, every))


@pytest.mark.parametrize("rate", [31, 1000, 1e12])
def test_a_rate_above_the_clips_gives_every_frame_once(rate):
    assert choose_frames(THIRTY, Sampling(fps=rate)) == tuple(range(300))


def test_a_rate_shows_what_is_on_the_screen_at_each_time():
    assert choose_frames(SLIDES, Sampling(fps=1)) == (0, 1, 3, 4)
    assert choose_frames(SLIDES, Sampling(fps=0.1)) == (0, 3, 4)
    assert choose_frames(SLIDES, Sampling(fps=0.11)) == (0, 3)
    assert choose_frames(clip_of([0, 1], last=9), Sampling(fps=0.125)) == (0, 1)


def test_a_rate_is_not_limited_by_the_number_of_frames():
    assert len(choose_frames(THIRTY, Sampling(fps=5))) == 50
    with pytest.raises(RequestError, match="frames and fps cannot be used together"):
        Sampling(frames=2, fps=5)
    assert Sampling().frames == 32 and Sampling(fps=5).frames is None
    assert Sampling(fps=5).identity["frames"] == 32  # as the settings of archives made by 0.1 have it


@settings(deadline=None)  # the machine may be busy
@given(clips, st.floats(0.05, 40))
def test_a_rate_gives_the_frames_of_the_plain_loop(clip, rate):
    times = [k / rate for k in range(int(clip.duration * rate + 2)) if k / rate < clip.duration]
    shown = {max(i for i in range(clip.frames) if clip.seconds[i] <= t) for t in times}
    near = {i for i in range(clip.frames) for t in times if abs(clip.seconds[i] - t) <= 2 * clip.tick}
    chosen = set(choose_frames(clip, Sampling(fps=rate)))
    assert chosen ^ shown <= near | {i - 1 for i in near} | {clip.frames - 1}


def test_a_part_begins_and_ends_with_what_is_on_the_screen():
    assert choose_frames(THIRTY, Sampling(3, start=2, end=4)) == (60, 90, 120)
    assert choose_frames(THIRTY, Sampling(100, start=2.01, end=2.02)) == (60,)
    assert choose_frames(SLIDES, Sampling(10, start=30, end=61)) == (3, 4)
    assert choose_frames(THIRTY, Sampling(2, start=9)) == (270, 299)
    assert choose_frames(THIRTY, Sampling(2, end=1)) == (0, 30)
    assert choose_frames(THIRTY, Sampling(fps=1, start=2.5, end=5)) == (75, 105, 135)


def test_an_end_after_the_end_of_the_clip_means_its_end():
    assert choose_frames(THIRTY, Sampling(2, end=60)) == (0, 299)


@settings(deadline=None)  # the machine may be busy
@given(clips, st.integers(1, 40), st.floats(0, 1), st.floats(0.001, 1))
def test_a_part_is_never_empty_and_never_outside(clip, count, begin, length):
    start = begin * float(clip.seconds[-1])
    end = start + length * clip.duration
    chosen = choose_frames(clip, Sampling(count, start=start, end=end))
    assert 1 <= len(chosen) <= count
    assert all(clip.seconds[i] <= end + 2 * clip.tick for i in chosen)
    assert all(clip.seconds[i] >= start for i in chosen[1:])


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"frames": 0}, "0 frames cannot be sampled"),
        ({"fps": 0}, "rate of 0"),
        ({"fps": float("nan")}, "rate of nan"),
        ({"start": -1}, "start of -1 s is not a time"),
        ({"end": -2}, "end of -2 s is not a time"),
        ({"end": float("inf")}, "end of inf s is not a time"),
        ({"start": 10.01}, "start of 10.01 s is after the end"),
        ({"start": 3, "end": 3}, "end of 3 s is not after the start of 3 s"),
        ({"end": 0}, "end of 0 s is not after the start"),
    ],
    ids=str,
)
def test_impossible_requests_are_refused_in_the_users_words(request_, message):
    with pytest.raises(RequestError, match=message) as caught:
        choose_frames(THIRTY, Sampling(**request_))
    assert caught.value.hint
    if {"start", "end"} & set(request_):
        assert "10.00 s long" in caught.value.hint
