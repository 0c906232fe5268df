"""`stsimdiff inspect`: show what is in a file, without torch."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..registry import printable, written
from . import common, options, output

if TYPE_CHECKING:
    from ..storage.stores import AnyPath

_BLOCKS = " ▁▂▃▄▅▆▇█"


def inspect(
    file: Annotated[
        str,
        typer.Argument(
            help="Tokens file, compressed file or folder of segments, perhaps in a store (s3://, gs://).",
            show_default=False,
        ),
    ],
    json: options.Json = False,
) -> None:
    """Show what is in a tokens file or a compressed file.

    Source video, model, method, counts, and the number of tokens kept per slot. The model is not loaded. The checksums
    of all tensors are compared, for which the whole file is read.
    """
    from dataclasses import asdict

    from ..storage.reading import StoredSegments, open_stored
    from ..storage.regular import check_file
    from ..storage.segment_index import is_segments
    from ..storage.stores import any_path

    path = any_path(file)
    if not is_segments(path):
        check_file(path, "a tokens file or a compressed file")
    stored = open_stored(path)
    stored.check()
    for text in stored.notes:
        output.note(text)
    source = stored.grid.source
    common.warn_of_toy(stored.grid.model.id, source.name, source.width, source.height)
    names = {"bytes": "video_bytes", "seconds": "video_seconds", "frames": "video_frames"}
    data: dict[str, Any] = {
        "file": file,
        "format": stored.header["format"],
        "bytes": stored.bytes,
        "source": {names.get(key, key): value for key, value in asdict(stored.grid.source).items()},
        "model": asdict(stored.grid.model),
        "grid": stored.grid.shape,
        "token_width": stored.grid.width,
        "tokens": stored.grid.tokens,
        "slot_seconds": stored.grid.seconds,
        "tensors": stored.names(),
        "packing": None if stored.packing is None else asdict(stored.packing),
        "versions": stored.versions,
        "reader": {**asdict(stored.grid.model), "command": f"stsimdiff ask {shlex.quote(file)}"},
    }
    if isinstance(stored, StoredSegments):
        data |= {"segments": [asdict(one) for one in stored.segments], "complete": stored.index.complete}
    if stored.compressed:
        data |= {"method": stored.method, "counts": stored.counts, **_kept(stored)}
    if json:
        if stored.compressed:
            data["method"] = {**stored.method, "ratio": float(stored.method["ratio"])}
        output.result_json(data)
        return
    _show(data)
    if stored.compressed and output.shows_colours():
        _show_slot(path)


def kind_counts(kind: Any) -> dict[str, int]:
    """How many kept tokens are representatives, events, both and neither; from their kinds (M,)."""
    from ..records import Kind

    both = Kind.REPRESENTATIVE | Kind.EVENT
    return {
        "representative": int((kind == Kind.REPRESENTATIVE).sum()),
        "event": int((kind == Kind.EVENT).sum()),
        "both": int((kind == both).sum()),
        "neither": int((kind == 0).sum()),
    }


def _kept(stored: Any) -> dict[str, Any]:
    """Counts of the kept tokens by kind, community and slot."""
    import numpy as np

    index, kind, community = (stored.array(name) for name in ("index", "kind", "community"))
    slots, rows, columns = stored.grid.shape
    return {
        "kept": len(index),
        "kept_by_kind": kind_counts(kind),
        "kept_communities": len(np.unique(community[community >= 0])),
        "kept_by_slot": np.bincount(index // (rows * columns), minlength=slots).tolist(),
    }


def _show(data: dict[str, Any]) -> None:
    source, model = data["source"], data["model"]
    slots, rows, columns = data["grid"]
    shape, tokens = f"{slots} slots x {rows} rows x {columns} columns", data["tokens"]
    lines = [
        ["file", f"{data['file']} ({data['format']}, {output.size(data['bytes'])})"],
        ["source", f"{source['name']}: {source['width']} x {source['height']}, {source['video_seconds']:.2f} s, "
                   f"{source['video_frames']} frames, read by {source['decoder']}"],
        ["model", f"{model['id']} ({model['family']}), fingerprint {model['fingerprint'][:12]}"],
        ["reader", _reader(data["reader"])],
        ["grid", f"{shape} = {tokens} tokens of width {data['token_width']}"],
        ["time", f"{data['slot_seconds'][0]:.2f} s to {data['slot_seconds'][-1]:.2f} s"],
        ["tensors", ", ".join(data["tensors"])],
    ]  # fmt: skip
    if segments := data.get("segments"):
        state = "complete" if data["complete"] else "it may grow"
        lines.append(["segments", f"{len(segments)} of up to {max(one['slots'] for one in segments)} slots; {state}"])
    if packing := data["packing"]:
        lines.append(
            [
                "packed",
                f"{packing['bits']} bits a number, rotated with seed {packing['seed']}, one scale a vector; "
                f"unpacked to {packing['dtype']}",
            ]
        )
    if source["missing_seconds"]:
        lines.append(["missing", f"{len(source['missing_seconds'])} frames that could not be decoded"])
    if "method" in data:
        method = data["method"]
        parameters = ", ".join(f"{key}={written(value)}" for key, value in method["parameters"].items())
        kinds = ", ".join(f"{count} {name}" for name, count in data["kept_by_kind"].items() if count)
        lines += [
            ["method", f"{method['name']} {parameters}".strip()],
            ["kept", f"{data['kept']} of {data['tokens']} (ratio {method['ratio']}): {kinds}"],
        ]
        if method["prompt"]:
            lines.append(["prompt", method["prompt"]])
        counts = data["counts"]
        if "communities" in counts:
            largest = f", the largest of {counts['largest_community']} tokens" if "largest_community" in counts else ""
            lines.append(["communities", f"{counts['communities']}{largest}; {data['kept_communities']} keep a token"])
        lines.append(["per slot", bars(data["kept_by_slot"], rows * columns)])
    for name, text in lines:
        output.result(f"{name:<12} {printable(text)}")


def _show_slot(file: AnyPath) -> None:
    """Show the slot with the most events in colours."""
    from ..view.blocks import block_lines, legend, most_eventful_slot
    from ..view.token_map import read_token_map

    token_map = read_token_map(file)
    slot = most_eventful_slot(token_map)
    lines = block_lines(token_map, slot)
    margin = [f"{f'slot {slot}':<12} ", *[" " * 13] * (len(lines) - 1)]
    output.coloured(
        [*(left + line for left, line in zip(margin, lines, strict=True)), " " * 13 + legend(token_map, slot)]
    )


def _reader(reader: dict[str, Any]) -> str:
    """The one model that can read the tokens, and the command that uses it."""
    revision = f" at revision {reader['revision']}" if reader["revision"] else ""
    return f"{reader['id']}{revision} (family {reader['family']}) alone; `{reader['command']}` uses it"


def bars(counts: list[int], full: int) -> str:
    """A line of blocks, one per slot: full height if all its tokens were kept, empty only if none was."""
    steps = len(_BLOCKS) - 1
    return "".join(_BLOCKS[0 if count == 0 else max(1, count * steps // full)] for count in counts)
