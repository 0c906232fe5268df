"""Small clips of the kinds that readers stumble over: see `clip_factory.py` for what their frames show."""

from __future__ import annotations

import random
import shutil
from fractions import Fraction
from pathlib import Path

import pytest

from tests.hostile.videos import copy_with_made_up_times
from tests.support.clip_factory import (
    CLOSED_GOP,
    INTRA_REFRESH,
    OPEN_GOP,
    has_encoder,
    remux,
    render,
    spoil,
    trim,
    truncate,
    turn,
)

N = 60
VARIABLE = [6 * i for i in range(30)] + [180 + i for i in range(30)]  # 10 frames a second, then 60; in sixtieths
MPEG = {"gop_size": 12, "max_b_frames": 2}
ONE = {"threads": "1"}  # libvpx waits for its own threads in a busy loop, for minutes on a machine with more to do
FAST_VPX = {"deadline": "realtime", "cpu-used": "8", "g": "20"} | ONE
ALT_REF = {"deadline": "good", "cpu-used": "8", "g": "30", "auto-alt-ref": "1", "lag-in-frames": "16"} | ONE
HEVC = {"codec": "libx265", "options": {"x265-params": "keyint=12:log-level=none"}}  # open GOPs by default
#: Made once by `render` with libsvtav1, preset 8 and crf 5. With threads of its own that encoder was seen not to end.
AV1 = Path(__file__).with_name("av1.mp4")
REFRESH = {"x264-params": "intra-refresh=1:keyint=20"}
FIRST_MOOV = {"movflags": "+faststart"}

RECIPES = {
    "closed.mp4": lambda p: render(p, options=CLOSED_GOP, audio=True),
    "open.mp4": lambda p: render(p, options=OPEN_GOP),
    "hevc.mp4": lambda p: render(p, **HEVC),
    "variable.mp4": lambda p: render(p, ticks=VARIABLE, tick=Fraction(1, 60), options=CLOSED_GOP),
    "late.mp4": lambda p: render(p, ticks=range(50, 50 + N), tick=Fraction(1, 30), options=CLOSED_GOP),
    "fragmented.mp4": lambda p: render(
        p, options=CLOSED_GOP, container_options={"movflags": "frag_keyframe+empty_moov"}
    ),
    "open.mkv": lambda p: render(p, options=OPEN_GOP, audio=True),
    "refresh.mkv": lambda p: render(p, options=REFRESH),
    "vp9.webm": lambda p: render(p, codec="libvpx-vp9", options=FAST_VPX),
    "vp8.webm": lambda p: render(p, codec="libvpx", options=ALT_REF),
    "av1.mp4": lambda p: Path(shutil.copy(AV1, p)),
    "open.ts": lambda p: render(p, options=OPEN_GOP),
    "refresh.ts": lambda p: render(p, options=REFRESH),
    "mpeg2.mpg": lambda p: render(p, codec="mpeg2video", format="vob", **MPEG),
    "mpeg4.avi": lambda p: render(p, codec="mpeg4", **MPEG),
    "h264.avi": lambda p: render(p, options=CLOSED_GOP),
    "raw.h264": lambda p: render(p, options=CLOSED_GOP, format="h264"),
    "odd.mp4": lambda p: render(p, size=(131, 97), pix_fmt="yuv444p"),
}
ENCODERS = {"hevc.mp4": "libx265", "vp9.webm": "libvpx-vp9", "vp8.webm": "libvpx"}

#: Clips that are cut, turned, without usable times, or damaged.
WORSE = {
    "trimmed.mp4": lambda p: trim(render(p, options=CLOSED_GOP), 22 / 30),
    "turned.mp4": lambda p: turn(render(p, options=CLOSED_GOP), (0, 1, -1, 0)),
    "interlaced.mp4": lambda p: render(p, options={"x264-params": "tff=1:keyint=12:bframes=3"}),
    "pyramid.ts": lambda p: render(p, options={"x264-params": "keyint=10:bframes=7:b-pyramid=normal:b-adapt=0"}),
    "intra.mp4": lambda p: render(p, options={"x264-params": "keyint=1"}),
    "one group.mp4": lambda p: render(p, options={"x264-params": "keyint=250:scenecut=0:bframes=2"}),
    "whole among refreshes.mp4": lambda p: two_whole_pictures(p),
    "begins late.ts": lambda p: _without_its_first_third(render(p, options=OPEN_GOP)),
    "h264.asf": lambda p: render(p, options=OPEN_GOP),
    "made-up times.mkv": lambda p: copy_with_made_up_times(render(p.with_suffix(".avi"), options=OPEN_GOP), p),
    "wmv2.asf": lambda p: render(p, codec="wmv2"),
    "plain.gif": lambda p: render(p, codec="gif", pix_fmt="rgb8"),
    "short.mp4": lambda p: truncate(render(p, options=CLOSED_GOP, container_options=FIRST_MOOV), 0.7),
    "short.ts": lambda p: truncate(render(p, options=CLOSED_GOP), 0.7),
    "noisy.mkv": lambda p: _noisy(render(p, options=CLOSED_GOP, audio=True)),
    "noisy vp9.mp4": lambda p: spoil(
        render(p, codec="libvpx-vp9", options=FAST_VPX), 24, 25, 26, fill=lambda size: b"\x86" + _bytes(size - 1)
    ),
    "bad mpeg4.mp4": lambda p: spoil(render(p, codec="mpeg4", **MPEG), 30),
    "bad hevc.mp4": lambda p: spoil(render(p, **HEVC), 13, 30),
    "bad key.mp4": lambda p: spoil(render(p, options=CLOSED_GOP), 24),
    "bad last.mp4": lambda p: spoil(render(p, options=CLOSED_GOP), 23),
    "bad open.mp4": lambda p: spoil(render(p, options=OPEN_GOP), 13, fill=_random_slice),
    "bad refresh.mp4": lambda p: spoil(render(p, options=INTRA_REFRESH), 30),
    "bad counted.avi": lambda p: spoil(render(p, options=CLOSED_GOP), 30),
    "bad everywhere.ts": lambda p: _noisy(render(p, options=CLOSED_GOP), times=6),
}
ENCODERS |= {"noisy vp9.mp4": "libvpx-vp9", "bad hevc.mp4": "libx265"}


def make_clip(path: Path) -> Path:
    """The clip of RECIPES or WORSE that has the name of `path`, rendered if it is not there."""
    encoder = ENCODERS.get(path.name)
    if encoder and not has_encoder(encoder):
        pytest.skip(f"this build of PyAV cannot encode with {encoder}")
    return path if path.exists() else (RECIPES | WORSE)[path.name](path)


def _bytes(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def _random_slice(size: int) -> bytes:
    """A packet that looks like a slice of a picture."""
    return (size - 4).to_bytes(4, "big") + b"\x41" + _bytes(size - 5)


def _noisy(path: Path, times: int = 1) -> Path:
    """The clip with random bytes in so many places."""
    data = bytearray(path.read_bytes())
    for place in range(1, times + 1):
        at = len(data) * place // (times + 1)
        data[at : at + 400] = _bytes(400)
    path.write_bytes(data)
    return path


def _without_its_first_third(path: Path) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[188 * (len(data) // 188 // 3) :])
    return path


def two_whole_pictures(path: Path) -> Path:
    """A clip of 100 frames with whole pictures at 0 and 50, and refreshes at 20, 40, 70 and 90."""
    parts = [
        render(path.with_name(f"from {n}.ts"), range(n, n + 50), options=INTRA_REFRESH, ticks=range(n, n + 50))
        for n in (0, 50)
    ]
    joined = path.with_name("joined.ts")
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    return remux(joined, path)
