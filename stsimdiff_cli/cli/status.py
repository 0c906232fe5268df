"""`stsimdiff status`: how far a folder of many outputs is, and what went wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..registry import printable
from . import options, output

if TYPE_CHECKING:
    from ..archive.status import Status


def status(
    folder: Annotated[
        str,
        typer.Argument(help="Folder that encode or compress wrote for many videos.", show_default=False),
    ],
    parquet: Annotated[
        Path | None,
        typer.Option(
            help="Also write the last state of every item to this Parquet file. Needs pyarrow.",
            parser=options.new_file,
            metavar="PATH",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Overwrite the Parquet file if it exists.", rich_help_panel=options.OUTPUT),
    ] = False,
    json: options.Json = False,
) -> None:
    """Show how far a folder of many videos is.

    The log is held against the files: one that was moved away is not done. The exit code is 0 whatever the numbers are.
    """
    from ..archive.status import save_parquet, status_of
    from ..storage.atomic import check_output
    from ..storage.stores import any_path

    if parquet is not None:
        check_output(parquet, force)
    found = status_of(any_path(folder))
    if parquet is not None:
        save_parquet(found, parquet)
    if json:
        output.result_json(_as_json(folder, found))
        return
    _print(folder, found)
    if parquet is not None:
        output.note(f"{parquet} holds {len(found.rows)} rows.")


def _as_json(folder: str, found: Status) -> dict[str, Any]:
    from ..archive.status import STATES

    return {
        "folder": folder,
        "settings": found.settings.values,
        "items": found.items,
        **{state: found.counts[state] for state in STATES},
        "video_seconds": found.video_seconds,
        "tokens": found.total("tokens"),
        "kept": found.total("kept"),
        "bytes": found.total("bytes"),
        "stage_seconds": dict(found.stages),
        "errors": [{"stage": stage, "message": text, "count": count} for stage, text, count in found.commonest()],
    }


def _print(folder: str, found: Status) -> None:
    from ..archive.status import STATES

    items = "an unknown number of" if found.items is None else str(found.items)
    rows = [[state, str(found.counts[state]), text] for state, text in STATES.items() if found.counts[state]]
    output.result(f"{printable(folder)}: {items} items")
    output.table(rows, ["status", "items", "meaning"])
    tokens, kept = found.total("tokens"), found.total("kept")
    amounts = f"{kept} of {tokens} tokens kept" if kept else f"{tokens} tokens"
    output.result(f"{found.video_seconds:.0f} s of video, {amounts}, {output.size(found.total('bytes'))}")
    if found.errors:
        errors = [[str(count), stage, printable(text)] for stage, text, count in found.commonest()]
        output.table(errors, ["items", "stage", "error"], "Commonest errors")
