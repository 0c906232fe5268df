"""The index of a folder of segments: which files it has, and what they have in common. Written and read without torch.

    folder/000000.safetensors ...   each a tokens file or a compressed file of a stretch of time, complete in itself
    folder/index.json               {"index": {...}, "digest": SHA-256 of it}, written anew after each segment

A segment is there once the index names it: what a killed program left besides is overwritten by the next one. Nothing
that the index names is ever changed, so that a folder can be read while it grows.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import FileFormatError, RequestError
from ..records import Amount, Seconds, Side, TokenId
from .atomic import save_json
from .directory import parse_json
from .formats import REMAKE
from .schema import read_as
from .stores import AnyPath, StorePath

INDEX = "index.json"
FORMAT = "stsimdiff.segments/1"
LONGEST = 1 << 26  # bytes of an index: more than a hundred thousand segments


@dataclass(frozen=True)
class Segment:
    """One file of a folder: what an index says of it."""

    file: str
    slots: Side
    kept: Amount  # tokens in it
    labels: Amount  # communities in it, which are numbered from 0
    first: Seconds  # the times of its first and last slot
    last: Seconds
    bytes: Amount
    digest: str  # of its header, which covers all of it
    frames: Amount = 0  # chosen frames it was encoded from, with those that could not be decoded
    sources: tuple[str, ...] = ()  # digests of the segments it was compressed from


@dataclass(frozen=True)
class Recording:
    """The video that a folder grows with, as it was when the last segment was encoded."""

    name: str
    bytes: Amount
    mtime_ns: Amount


@dataclass(frozen=True)
class Index:
    """What index.json says."""

    format: str
    kind: str  # formats.TOKENS or formats.COMPRESSED
    model: str  # fingerprint
    shape: tuple[Side, Side, Side]  # H, W, D
    border: tuple[TokenId, ...]  # ids that the family writes between the last token of a segment and the next one
    settings: dict[str, str]  # how the segments were made: what continues them must be made likewise
    segments: tuple[Segment, ...] = ()
    recording: Recording | None = None
    complete: bool = False  # whether the video has ended


def is_segments(path: AnyPath) -> bool:
    """Whether this is a folder of segments. What is a file by its name is none in a store, where asking takes time."""
    if isinstance(path, StorePath) and path.suffix:
        return False
    place = path / INDEX
    try:
        with place.open("rb") as file:
            return FORMAT.partition("/")[0].encode() in file.read(LONGEST)
    except (OSError, ValueError):
        return False


def read_index(folder: AnyPath) -> Index:
    """The index of a folder, checked. Raises FileFormatError for one that is damaged, edited or of a newer format."""
    path = folder / INDEX
    try:
        with path.open("rb") as file:
            data = parse_json(file.read(LONGEST).decode("utf-8"))
        if not isinstance(data, dict) or set(data) != {"index", "digest"}:
            raise ValueError("it has other entries than index and digest")
        found = data["index"]
        if isinstance(found, dict) and found.get("format") != FORMAT:
            raise ValueError(f"its format is {str(found.get('format'))[:60]!r}, and this version reads {FORMAT}")
        if data["digest"] != _digest(found):
            raise ValueError("its digest does not match")
        index: Index = read_as(Index, found, "index", strict=True)
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror or error}.", "Check its permissions.") from error
    except ValueError as error:
        raise FileFormatError(f"{path} is damaged or was edited: {error}.", REMAKE) from error
    return index


def write_index(folder: Path, index: Index) -> None:
    """Write the index atomically."""
    data = json.loads(json.dumps(asdict(index)))
    save_json(folder / INDEX, {"index": data, "digest": _digest(data)}, indent=1)


def _digest(index: Any) -> str:
    return hashlib.sha256(json.dumps(index, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
