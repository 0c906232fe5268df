"""The clip that is measured if the user names no video."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np

WIDTH, HEIGHT, RATE = 640, 360, 30
_SCENE = 5  # seconds until the scene changes
_KEY_FRAMES = 2 * RATE  # one every two seconds, as video sites do


def write_default_clip(path: Path, frames: int) -> None:
    """Write an H.264 clip (MPEG-4 if PyAV lacks x264), so long that `frames` frames are half a second apart.

    A texture drifts over the picture, a square crosses it, and every five seconds the scene changes.
    """
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(_codec(), rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size = _KEY_FRAMES
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
    """The frames, (HEIGHT, WIDTH, 3) uint8 each."""
    for i in range(count):
        scene, t = divmod(i, _SCENE * RATE)
        if t == 0:
            texture = _texture(scene)
        picture = texture[t : t + HEIGHT, 2 * t : 2 * t + WIDTH].copy()
        x, y = (40 + 3 * t) % (WIDTH - 80), 60 + t % (HEIGHT - 140)
        picture[y : y + 80, x : x + 80] = (230, 60 * (scene % 5), 40)
        yield picture


def _texture(seed: int) -> np.ndarray:
    """Squares of three sizes, over a larger area than a picture, so that a window can drift over them."""
    rng = np.random.default_rng(seed)
    height, width = HEIGHT + _SCENE * RATE, WIDTH + 2 * _SCENE * RATE
    total = np.zeros((height, width, 3))
    for cell in (120, 40, 10):
        coarse = rng.uniform(size=(height // cell + 2, width // cell + 2, 3))
        total += coarse.repeat(cell, 0).repeat(cell, 1)[:height, :width] * cell**0.5
    total -= total.min()
    return (total * (255 / total.max())).astype(np.uint8)
