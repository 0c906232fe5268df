"""The page: one self-contained HTML file to scrub through the slots and point at tokens."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from fractions import Fraction
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from ..registry import printable
from ..storage.atomic import whole_file
from .geometry import geometry_of
from .token_map import TokenMap

#: The longer side of a frame in the page, in pixels; less with many slots, to keep the file small.
LONGEST, LONGEST_OF_MANY, MANY = 640, 448, 96
_QUALITY = 5  # of FFmpeg's 2 (best) to 31


def longest_side(slots: int) -> int:
    """The longer side, in pixels, of the frames of a page with `slots` slots."""
    return LONGEST if slots <= MANY else LONGEST_OF_MANY


def save_page(
    path: Path, shown: Sequence[TokenMap], frames: Mapping[int, np.ndarray | None], note: str | None = None
) -> int:
    """Write the page of one compressed file, or of two to compare; returns its size in bytes.

    `frames` may lack some slots, or all of them if there is no video; `note` then says why.
    """
    part = files(__package__)
    text = part.joinpath("page.html").read_text("utf-8")
    fill = {
        "/*STYLE*/": part.joinpath("page.css").read_text("utf-8"),
        "/*SCRIPT*/": part.joinpath("page.js").read_text("utf-8"),
        "/*DATA*/": _embedded(page_data(shown, frames, note)),
    }
    for mark, content in fill.items():
        before, _, after = text.partition(mark)
        text = before + content + after
    with whole_file(path) as temporary:
        temporary.write_text(text, "utf-8")
    return path.stat().st_size


def page_data(
    shown: Sequence[TokenMap], frames: Mapping[int, np.ndarray | None], note: str | None = None
) -> dict[str, Any]:
    """Everything that the page shows, ready for JSON."""
    grid = shown[0].grid
    source = grid.source
    slots, rows, columns = grid.shape
    about = f"{printable(grid.model.id)}: {slots} slots of {rows} x {columns} tokens. {note or ''}".strip()
    return {
        "title": f"{printable(source.name)}: what was kept, and why",
        "about": about,
        "grid": grid.shape,
        "marked": shown[0].marked,
        "times": [f"{second:.2f}" for second in grid.seconds],
        "width": source.width,
        "height": source.height,
        "geometry": asdict(geometry_of(grid)),
        "frames": [_uri(frames.get(slot)) for slot in range(slots)],
        "files": [_file(token_map) for token_map in shown],
    }


def _file(token_map: TokenMap) -> dict[str, Any]:
    index = np.flatnonzero(token_map.kept)
    return {
        "title": f"{token_map.name} - {token_map.title()}",
        "index": index.tolist(),
        "kind": token_map.kind.reshape(-1)[index].tolist(),
        "community": token_map.community.reshape(-1).tolist(),
        "regions": token_map.regions,
        "wholes": None if token_map.whole_of is None else token_map.whole_of.tolist(),
        "piece": [] if token_map.whole_of is None else token_map.piece.tolist(),
        "importance": _numbers(token_map.importance, index),
        "centrality": _numbers(token_map.centrality, index),
        "change": None if token_map.change is None else [round(float(value), 5) for value in token_map.change],
        "perSlot": token_map.kept.sum(axis=(1, 2)).tolist(),
        "note": None if token_map.change is not None else "The change signal is not known: the file does not tell.",
    }


def _numbers(values: np.ndarray | None, index: np.ndarray) -> list[float] | None:
    """Values of the kept tokens to five digits."""
    return None if values is None else [float(f"{value:.5g}") for value in values.reshape(-1)[index]]


def _embedded(data: dict[str, Any]) -> str:
    """JSON that cannot end the script element that holds it."""
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def _uri(frame: np.ndarray | None) -> str | None:
    return None if frame is None else "data:image/jpeg;base64," + base64.b64encode(jpeg(frame)).decode("ascii")


def jpeg(picture: np.ndarray) -> bytes:
    """A picture (height, width, 3) uint8 as JPEG, by PyAV, which every installation has."""
    import av

    height, width = picture.shape[:2]
    codec = av.CodecContext.create("mjpeg", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = width, height, "yuvj420p", Fraction(1, 25)
    codec.options = {"qmin": str(_QUALITY), "qmax": str(_QUALITY)}
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    frame = frame.reformat(format="yuvj420p", src_color_range="MPEG", dst_color_range="JPEG")
    return b"".join(bytes(packet) for part in (frame, None) for packet in codec.encode(part))
