"""The header of a tokens or compressed file, written and read without torch.

    {"format": "stsimdiff.tokens/1", "versions": {...}, "grid": {...}, "checksums": {tensor: CRC-32}}

`grid` is records.TokenGrid, of whose `coverage` only the fields that differ from a whole frame are written; `saliency`
is written where it is "cls" (attention from [CLS]), and a file without the entry has attention received. A compressed
file also has `method` (name, parameters, ratio, prompt) and `counts`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import FileFormatError, RequestError
from ..records import RECEIVED, Coverage, Layout, ModelRef, Source, TokenGrid
from .formats import COMPRESSED, KEY, REMAKE, TOKENS, VERSION
from .old_files import coverage_by_family


def encode_header(entries: Mapping[str, Any], grid: TokenGrid, checksums: Mapping[str, str]) -> dict[str, str]:
    """The metadata of a file: `entries` (format, versions and others), the grid and the checksums as one JSON text."""
    whole = asdict(Coverage())
    coverage = {name: value for name, value in asdict(grid.coverage).items() if value != whole[name]}
    described = {**asdict(grid), "coverage": coverage}
    if grid.saliency == RECEIVED:
        del described["saliency"]
    header = {**entries, "grid": described, "checksums": dict(checksums)}
    return {KEY: json.dumps(header, sort_keys=True, separators=(",", ":"))}


def read_header(path: Path) -> dict[str, Any]:
    """The header as JSON, its format checked.

    Raises RequestError for a missing file; FileFormatError for a truncated, foreign or edited file, and for a format
    newer than this version reads.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise RequestError(f"There is no file {path}.", "Check the name.")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise FileFormatError(f"{path} is truncated, or is not a safetensors file ({error}).", REMAKE) from error
    if KEY not in metadata:
        raise FileFormatError(f"{path} was not written by stsimdiff.", REMAKE)
    try:
        header = json.loads(metadata[KEY])
        name, _, version = header["format"].rpartition("/")
        number = int(version)
        if not isinstance(header["checksums"], dict):
            raise TypeError("checksums")
    except (ValueError, TypeError, KeyError) as error:
        raise FileFormatError(f"The header of {path} was edited.", REMAKE) from error
    if name not in (TOKENS, COMPRESSED):
        raise FileFormatError(f"{path} has the unknown format {name!r}.", REMAKE)
    if number > VERSION:
        raise FileFormatError(
            f"{path} has format {name}/{number}; this version reads up to {name}/{VERSION}.",
            "pip install --upgrade stsimdiff",
        )
    return header


def decode_grid(data: dict[str, Any]) -> TokenGrid:
    """The grid of a header. Raises KeyError, TypeError or ValueError if it was edited."""
    layout = data["layout"]
    source: dict[str, Any] = {
        name: tuple(item) if isinstance(item, list) else item for name, item in data["source"].items()
    }
    shape = tuple(int(side) for side in data["shape"])
    if len(shape) != 3 or min(shape) < 1 or len(data["seconds"]) != shape[0]:
        raise ValueError("grid")
    grid = TokenGrid(
        shape=shape,
        width=int(data["width"]),
        seconds=tuple(float(second) for second in data["seconds"]),
        layout=Layout(
            before=tuple(layout["before"]),
            between=tuple((position, tuple(ids)) for position, ids in layout["between"]),
            after=tuple(layout["after"]),
        ),
        model=ModelRef(**data["model"]),
        source=Source(**source),
        coverage=Coverage(**data.get("coverage", {})),
        saliency=str(data.get("saliency", RECEIVED)),
    )
    return grid if "coverage" in data else coverage_by_family(grid)
