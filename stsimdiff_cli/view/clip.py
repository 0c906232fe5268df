"""The clip: the token grid played over the video, with a time line and a cursor under it; MP4, or a GIF."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from .. import video
from ..plotting import check_installed, drawn
from ..storage.atomic import whole_file
from .frames import scan_again, shrunk
from .geometry import geometry_of
from .paint import canvas, kept_picture
from .timeline import draw_timeline
from .token_map import TokenMap


@dataclass(frozen=True)
class _Form:
    """How a kind of file holds a clip."""

    container: str
    codec: str
    pixels: str
    tick: Fraction  # seconds in which times are counted
    fastest: float  # the most frames per second
    longest: int  # the most pixels of the video's longer side
    options: dict[str, str]


_FORMS = {
    ".mp4": _Form("mp4", "libx264", "yuv420p", Fraction(1, 1000), 25.0, 1280, {"crf": "20", "preset": "veryfast"}),
    ".gif": _Form("gif", "gif", "pal8", Fraction(1, 100), 10.0, 720, {}),
}
#: In pixels: the least for the shorter side of the video (small videos are enlarged by whole factors), and the least
#: width of the picture, which the time line needs.
SHORTEST, NARROWEST = 360, 720
_STRIP, _DPI = 240, 100
_PAPER, _CURSOR = 255, (51, 51, 51)


def save_clip(
    path: Path, token_map: TokenMap, source: Path | None, progress: Callable[[int, int], None] = lambda *_: None
) -> int:
    """Draw the token grid over the video, or over a plain background without one; returns the number of frames.

    Each frame shows the slot of its time. The clip begins at the first slot and ends one slot's time after the last.
    """
    check_installed()
    import av

    form = _FORMS[path.suffix.lower()]
    size = _size(token_map, form.longest)
    strip, columns = _strip(token_map, max(size[1], NARROWEST))
    geometry = geometry_of(token_map.grid)
    seconds = np.array(token_map.grid.seconds)
    count = 0
    with whole_file(path, av.FFmpegError) as temporary, av.open(str(temporary), "w", format=form.container) as out:
        stream: Any = out.add_stream(form.codec, rate=25, options=form.options)
        stream.width, stream.height = strip.shape[1], size[0] + _STRIP
        stream.pix_fmt, stream.codec_context.time_base = form.pixels, form.tick
        begin = None
        for time, frame, total in _frames(token_map, source, form):
            slot = max(0, int(np.searchsorted(seconds, time + 1e-6, side="right")) - 1)
            shown = kept_picture(canvas(size, frame), token_map, slot, geometry)
            begin = time if begin is None else begin
            pixels: Any = _page(shown, strip, columns[slot])
            if form.pixels == "pal8":
                pixels = _in_few_colours(pixels)
            made = av.VideoFrame.from_ndarray(pixels, format="pal8" if form.pixels == "pal8" else "rgb24")
            made.pts, made.time_base = round((time - begin) / form.tick), form.tick
            out.mux(stream.encode(made))
            count += 1
            progress(count, total)
        out.mux(stream.encode(None))
    return count


def _frames(token_map: TokenMap, source: Path | None, form: _Form) -> Iterator[tuple[float, np.ndarray | None, int]]:
    """Time and picture of each frame to show, and about how many there are."""
    seconds = token_map.grid.seconds
    gap = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 1.0
    end = seconds[-1] + gap
    if source is None:
        for second in (*seconds, end):
            yield second, None, len(seconds) + 1
        return
    scan = scan_again(source, token_map.grid.source)
    rate = min(form.fastest, scan.fps) if scan.fps > 0 else form.fastest
    start = max(0.0, seconds[0] - scan.tolerance)
    indices = video.choose_frames(scan, video.Sampling(fps=rate, start=start, end=end))
    for part in video.read_frames(source, scan, indices, workers=None):
        for pixels, second in zip(part.pixels, part.seconds, strict=True):
            yield second, shrunk(pixels.numpy(), form.longest), len(indices)


def _size(token_map: TokenMap, longest: int) -> tuple[int, int]:
    """Height and width at which the video is shown, both even."""
    width, height = token_map.grid.source.width, token_map.grid.source.height
    scale = min(1.0, longest / max(width, height))
    short, long = (max(1, round(scale * side)) for side in sorted((width, height)))
    scale *= max(1, min(-(-SHORTEST // short), longest // long))
    return 2 * max(1, round(height * scale / 2)), 2 * max(1, round(width * scale / 2))


def _in_few_colours(picture: np.ndarray) -> Any:
    """A picture (height, width, 3) uint8 as indices (height, width) into 256 colours (256, 4), alpha first."""
    from PIL import Image

    few = Image.fromarray(picture).quantize(256, Image.Quantize.MEDIANCUT)
    colours = np.array(few.getpalette("RGB"), np.uint8).reshape(-1, 3)
    palette = np.full((256, 4), 255, np.uint8)
    palette[: len(colours), 1:] = colours
    return np.asarray(few), palette


def _strip(token_map: TokenMap, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The time line (height, width, 3) uint8, and the pixel column of each slot in it."""
    with drawn(width / _DPI, _STRIP / _DPI, _DPI) as figure:
        axes = figure.add_axes((70 / width, 0.29, 1 - 160 / width, 0.56))
        draw_timeline(axes, token_map, [])
        figure.canvas.draw()
        picture = np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()
        x = axes.transData.transform([(slot, 0) for slot in range(token_map.grid.shape[0])])[:, 0]
    return picture, x.round().astype(int)


def _page(shown: np.ndarray, strip: np.ndarray, column: int) -> np.ndarray:
    """The picture, centred above the strip, and the cursor at pixel column `column`."""
    out = np.full((shown.shape[0] + strip.shape[0], strip.shape[1], 3), _PAPER, np.uint8)
    left = (strip.shape[1] - shown.shape[1]) // 2
    out[: shown.shape[0], left : left + shown.shape[1]] = shown
    out[shown.shape[0] :] = strip
    top, bottom = shown.shape[0] + int(0.12 * _STRIP), shown.shape[0] + int(0.72 * _STRIP)
    out[top:bottom, max(0, column - 1) : column + 2] = _CURSOR
    return out
