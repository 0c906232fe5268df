"""Renders small clips whose frames show their own number, and damages them as real files are damaged.

The number is painted as 16 black or white blocks and, below them, as the 16 inverted blocks. It survives compression,
and a picture that is damaged, rotated or mixed with another does not show any number.

    0 1 1 0 1 0 0 1      rows 0 and 1: the number, highest bit first
    1 0 0 1 0 1 1 0
    1 0 0 1 0 1 1 0      rows 2 and 3: the same, inverted
    0 1 1 0 1 0 0 1
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

#: The sample videos of the repository.
SAMPLES = Path(__file__).parents[2] / "sample_videos"

ROWS, COLUMNS = 4, 8
WIDTH, HEIGHT = 128, 96

OPEN_GOP = {"x264-params": "open-gop=1:keyint=12:min-keyint=12:bframes=3:b-adapt=0:scenecut=0"}
INTRA_REFRESH = {"x264-params": "keyint=20:intra-refresh=1:bframes=0"}  # one complete picture, then gradual refreshes
CLOSED_GOP = {"x264-params": "keyint=12:min-keyint=12:bframes=2:scenecut=0"}


def has_encoder(name: str) -> bool:
    """True if this build of PyAV can encode with `name`."""
    try:
        av.Codec(name, "w")
    except Exception:
        return False
    return True


def paint(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A picture of `number`: (height, width, 3) uint8 with a little moving texture over the blocks."""
    bits = [(number >> (15 - i)) & 1 for i in range(16)]
    blocks = np.array(bits + [1 - b for b in bits]).reshape(ROWS, COLUMNS)
    rows = np.arange(height) * ROWS // height
    columns = np.arange(width) * COLUMNS // width
    picture = 40 + 160 * blocks[rows][:, columns]  # (height, width)
    y, x = np.mgrid[:height, :width]
    texture = 12 * np.sin((x + 3 * number) / 5) + 12 * np.cos((y - 2 * number) / 7)
    return np.repeat((picture + texture)[:, :, None], 3, axis=2).clip(0, 255).astype(np.uint8)


def read_number(picture: np.ndarray) -> int | None:
    """The number painted in a picture (height, width, 3); None if it is not clearly visible."""
    height, width = picture.shape[:2]
    grey = picture.astype(np.float32).mean(axis=2)
    levels = np.empty((ROWS, COLUMNS), np.float32)
    for r in range(ROWS):
        for c in range(COLUMNS):
            top, bottom = (r + 0.25) * height / ROWS, (r + 0.75) * height / ROWS
            left, right = (c + 0.25) * width / COLUMNS, (c + 0.75) * width / COLUMNS
            levels[r, c] = grey[int(top) : int(bottom) + 1, int(left) : int(right) + 1].mean()
    upper, lower = levels[:2].ravel(), levels[2:].ravel()
    if (abs(upper - lower) < 80).any():
        return None
    return int("".join("1" if u > w else "0" for u, w in zip(upper, lower, strict=True)), 2)


def render(
    path: Path,
    numbers: Iterable[int] = range(60),
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    rate: int = 30,
    ticks: Sequence[int] | None = None,
    tick: Fraction | None = None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    picture: Callable[[int], np.ndarray] | None = None,
    pix_fmt: str = "yuv420p",
    audio: bool = False,
    format: str | None = None,
    container_options: dict[str, str] | None = None,
    **stream_settings,
) -> Path:
    """Write a clip whose i-th frame shows the i-th number, at `ticks[i] * tick` seconds or at a constant rate.

    `picture` returns the stored picture of a number, (height, width, 3) for `size` = (width, height).
    """
    make = picture or (lambda number: paint(number, *size))
    with av.open(str(path), "w", format=format, container_options=container_options or {}) as out:
        stream = out.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        for name, value in stream_settings.items():
            setattr(stream.codec_context, name, value)
        if tick is not None:
            stream.codec_context.time_base = tick
        sound = out.add_stream("aac", rate=16000) if audio else None
        for i, number in enumerate(numbers):
            frame = av.VideoFrame.from_ndarray(make(number), format="rgb24")
            frame.pts = i if ticks is None else ticks[i]
            frame.time_base = tick or Fraction(1, rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if sound is not None:
            _encode_silence(out, sound)
            out.mux(sound.encode(None))
    return path


def render_sound(path: Path, cover: bool = False) -> Path:
    """A file with an audio stream and no video, except for the picture of a cover if `cover`."""
    with av.open(str(path), "w") as out:
        sound = out.add_stream("aac", rate=16000)
        if cover:
            art = out.add_stream("mjpeg", rate=1, options={"strict": "unofficial"})
            art.width, art.height, art.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
            art.disposition = av.stream.Disposition.attached_pic.value
            out.mux(art.encode(av.VideoFrame.from_ndarray(paint(1), format="rgb24")))
            out.mux(art.encode(None))
        _encode_silence(out, sound)
        out.mux(sound.encode(None))
    return path


def render_colour(
    path: Path,
    colour: tuple[int, int, int],
    matrix: str,
    full_range: bool,
    tagged: bool,
    size: tuple[int, int] = (64, 64),
) -> Path:
    """A clip of one colour, converted to YUV with the given matrix, which the file states if `tagged`."""
    red, blue = {"bt709": (0.2126, 0.0722), "bt601": (0.299, 0.114)}[matrix]
    r, g, b = (c / 255 for c in colour)
    y = red * r + (1 - red - blue) * g + blue * b
    cb, cr = (b - y) / (2 * (1 - blue)), (r - y) / (2 * (1 - red))
    planes = (255 * y, 128 + 255 * cb, 128 + 255 * cr) if full_range else (16 + 219 * y, 128 + 224 * cb, 128 + 224 * cr)
    code = {"bt709": 1, "bt601": 6}[matrix] if tagged else 2
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=30, options={"crf": "1"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv444p"
        stream.codec_context.colorspace, stream.codec_context.color_range = code, 2 if full_range else 1
        for i in range(3):
            frame = av.VideoFrame(*size, "yuv444p")
            for plane, value in zip(frame.planes, planes, strict=True):
                plane.update(bytes([round(value)]) * plane.buffer_size)
            frame.colorspace, frame.color_range = code, 2 if full_range else 1
            frame.pts, frame.time_base = i, Fraction(1, 30)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def _encode_silence(out, sound) -> None:
    for i in range(20):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, i * 1024
        out.mux(sound.encode(frame))


def remux(source: Path, target: Path, first: int = 0, format: str | None = None) -> Path:
    """Copy the packets of a clip into another container from decode position `first` on, like `ffmpeg -c copy`."""
    with av.open(str(source)) as clip, av.open(str(target), "w", format=format) as out:
        video = clip.streams.video[0]
        stream = out.add_stream_from_template(video)
        for position, packet in enumerate(clip.demux(video)):
            if packet.size and position >= first:
                packet.stream = stream
                out.mux(packet)
    return target


def spoil(path: Path, *positions: int, fill: Callable[[int], bytes] = lambda size: b"\xff" * size) -> Path:
    """Replace the packets at these decode positions by `fill(size)`, by default undecodable bytes."""
    with av.open(str(path)) as clip:
        packets = [(p.pos, p.size) for p in clip.demux(clip.streams.video[0]) if p.size]
    data = bytearray(path.read_bytes())
    for position in positions:
        at, size = packets[position]
        data[at : at + size] = fill(size)
    path.write_bytes(bytes(data))
    return path


def truncate(path: Path, to: float) -> Path:
    """Cut the file after the fraction `to` of its bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: int(to * len(data))])
    return path


def turn(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Set (a, b, c, d) of the display matrix in the track header of an mp4 with one track."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd")
    if data[at + 4] != 0:
        raise ValueError("expected a track header of version 0")
    a, b, c, d = (value << 16 for value in matrix)
    struct.pack_into(">9i", data, at + 44, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(bytes(data))
    return path


def trim(path: Path, seconds: float) -> Path:
    """Move the start of the edit list of an mp4 by `seconds`, like `ffmpeg -ss SECONDS -c copy`.

    The frames before it stay in the file because later ones need them, but players do not show them.
    """
    data = bytearray(path.read_bytes())
    scale_at = data.index(b"mdhd") + 4 + 12
    scale = struct.unpack_from(">I", data, scale_at)[0]
    at = data.index(b"elst")
    if data[at + 4] != 0:
        raise ValueError("expected an edit list of version 0")
    start = struct.unpack_from(">i", data, at + 16)[0]
    struct.pack_into(">i", data, at + 16, start + round(seconds * scale))
    path.write_bytes(bytes(data))
    return path
