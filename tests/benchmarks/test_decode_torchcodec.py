"""benchmarks/decode_torchcodec.py: a clip is repeated as it is, and what is measured are the same frames."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

from stsimdiff_cli.video import read_frames, scan
from stsimdiff_cli.video.workers import Workers
from tests.hostile.videos import available
from tests.support.awkward_clips import make_clip

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("decode_torchcodec")


def test_a_clip_is_repeated_without_a_gap(script, tmp_path):
    once, twice = make_clip(tmp_path / "closed.mp4"), tmp_path / "new" / "twice.mp4"
    twice.parent.mkdir()
    script.repeat_clip(once, twice, 2)
    short, long = scan(once), scan(twice)
    assert long.frames == 2 * short.frames
    np.testing.assert_allclose(np.diff(long.seconds), np.diff(short.seconds)[0], atol=1e-4)
    (first,) = read_frames(once, short, range(short.frames), chunk=short.frames)
    (both,) = read_frames(twice, long, range(long.frames), chunk=long.frames)
    assert both.pixels.equal(first.pixels.repeat(2, 1, 1, 1))


def test_both_readers_give_the_frames_of_any_number_of_threads(script, tmp_path, monkeypatch):
    monkeypatch.setattr(Workers, "_read_parts", Workers._read_parts)  # which Waits wraps
    path, waits = make_clip(tmp_path / "closed.mp4"), script.Waits()
    indices = list(range(scan(path).frames))
    rows = [script.measure(script.OURS, path, indices, threads, waits) for threads in (1, 2)]
    assert len(waits.threads) == 2, "two workers read"
    if script.THEIRS in available():
        rows += [script.measure(script.THEIRS, path, indices, threads, waits) for threads in (1, 2)]
    assert len({row["digest"] for row in rows}) == 1
    assert all(row["free_seconds"] > 0 for row in rows)
