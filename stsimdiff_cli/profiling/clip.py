"""A clip to measure with when the user names none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np

WIDTH, HEIGHT, RATE = 640, 360, 30
_SCENE = 5  # seconds until the picture changes
_KEY = 2 * RATE  # a key frame every two seconds, as video sites write


def make_clip(path: Path, frames: int) -> None:
    """Write an H.264 clip (MPEG-4 where PyAV lacks x264), so long that `frames` frames are half a second apart.

    Structures drift over the picture, a square crosses it, and every five seconds the scene changes.
    """
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(_codec(), rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size = _KEY
        for picture in _pictures(max(frames, 2) * RATE // 2):
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def _codec() -> str:
    try:
        av.Codec("libx264", "w")
    except ValueError:  # PyAV's UnknownCodecError
        return "mpeg4"
    return "libx264"


def _pictures(count: int) -> Iterator[np.ndarray]:
    """(HEIGHT, WIDTH, 3) uint8 each."""
    for i in range(count):
        scene, t = divmod(i, _SCENE * RATE)
        if t == 0:
            scenery = _scenery(scene)
        picture = scenery[t : t + HEIGHT, 2 * t : 2 * t + WIDTH].copy()
        x, y = (40 + 3 * t) % (WIDTH - 80), 60 + t % (HEIGHT - 140)
        picture[y : y + 80, x : x + 80] = (230, 60 * (scene % 5), 40)
        yield picture


def _scenery(seed: int) -> np.ndarray:
    """Smooth structures of three sizes, larger than a picture, so that a window can drift over them."""
    chance = np.random.default_rng(seed)
    height, width = HEIGHT + _SCENE * RATE, WIDTH + 2 * _SCENE * RATE
    total = np.zeros((height, width, 3))
    for cell in (120, 40, 10):
        coarse = chance.uniform(size=(height // cell + 2, width // cell + 2, 3))
        total += coarse.repeat(cell, 0).repeat(cell, 1)[:height, :width] * cell**0.5
    total -= total.min()
    return (total * (255 / total.max())).astype(np.uint8)
