"""The short form of the awkward videos (`videos.trials` is the long one), and every failure it has found, by seed."""

from __future__ import annotations

import pytest

from tests.hostile.trials import tally
from tests.hostile.videos import damaged_trials, healthy_trials, trials

#: Healthy videos of which frames were wrong, or damage was seen, before a fault was mended.
HEALTHY = {
    8: "H.264 with B-frames in ASF: times of decoding",
    59: "H.264 in a program stream: pictures without times",
    75: "MPEG-1 in a program stream: one picture without a time",
    109: "H.264 in Matroska: times of decoding",
    191: "wmv2 in ASF: decord was wrong",
    254: "MPEG-4 in fragmented MOV: decord was wrong by one frame",
    746: "MPEG-4 in ASF: the last two pictures share a time",
    1107: "H.264 in a program stream: FFmpeg complains while it probes",
}
#: Damage that nobody was told of.
DAMAGED = {
    0: "noise in raw HEVC",
    8: "a hole in ASF",
    19: "Matroska that ends early",
    31: "noise in ASF",
    37: "noise in ASF that FFmpeg meets when it opens the file",
    53: "GIF that ends early",
    70: "a transport stream that ends early",
    83: "VP8 in Matroska that ends early",
    97: "live VP9 that ends early",
}


@pytest.mark.parametrize("seed", HEALTHY)
def test_healthy_videos_that_were_read_wrongly_are_read_rightly(tmp_path, seed):
    assert [t for t in healthy_trials(seed, tmp_path) if t.failure] == []


@pytest.mark.parametrize("seed", DAMAGED)
def test_damage_that_was_not_told_is_told(tmp_path, seed):
    assert [t for t in damaged_trials(seed, tmp_path) if t.failure] == []


def test_no_frame_of_a_healthy_video_is_wrong_and_nine_of_ten_damaged_ones_are_told(tmp_path):
    tried = list(trials(3100, tmp_path, 16))
    assert [t for t in tried if t.failure and t.kind.startswith("healthy")] == []
    counts = tally(tried)
    assert all(10 * failed <= count for kind, (count, failed) in counts.items() if kind.startswith("damaged")), counts
    assert {"healthy videos, pyav", "damaged videos, pyav"} <= set(counts)
    assert list(tmp_path.iterdir()) == []
