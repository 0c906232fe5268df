"""`stsimdiff view`: a picture, a clip or a page that shows which tokens were kept, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options, output, outputs

if TYPE_CHECKING:
    from ..view.frames import SourceVideo
    from ..view.token_map import TokenMap

#: What is made, by the suffix of the output.
FORMATS = {
    ".png": "picture", ".svg": "picture", ".pdf": "picture", ".mp4": "clip", ".gif": "clip", ".html": "page",
}  # fmt: skip


def view(
    files: Annotated[
        list[Path], typer.Argument(help="A compressed file; for a picture or a page, two of the same video to compare.")
    ],
    output_file: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            parser=options.new_file,
            metavar="PATH",
            help="File to write: .png, .svg or .pdf for a picture, .mp4 or .gif for a clip, .html for a page.",
            show_default=False,
            rich_help_panel=options.OUTPUT,
        ),
    ],
    video: Annotated[
        Path | None,
        typer.Option(
            help="The video. Needed if it is neither next to the file nor in the current folder.", show_default=False
        ),
    ] = None,
    slots: Annotated[
        str | None,
        typer.Option(
            help="Slots of a picture: how many (8; those with the most events, and even ones), or which (0,5,10-12).",
            show_default=False,
        ),
    ] = None,
    tokens: Annotated[
        Path | None,
        typer.Option(help="Tokens file with the change signal, if the compressed file has none.", show_default=False),
    ] = None,
    mark: Annotated[
        str | None,
        typer.Option(
            metavar="TIMES",
            help="Times to mark, separated by commas, such as those that ask --when shows, e.g. 12.5,1:03.",
            show_default=False,
        ),
    ] = None,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Draw which tokens were kept, and why.

    Representatives are yellow, events red, tokens that are both orange; dropped cells are dimmed. A timeline shows the
    tokens kept per slot, the change from slot to slot, and the events. With --mark, times such as those that ask --when
    shows are marked in it; a picture shows their slots.
    """
    from ..storage.image_files import is_images
    from ..storage.reading import is_stored
    from ..storage.regular import check_file
    from ..storage.stretch import parse_time
    from ..view.token_map import read_token_map, same_video, with_marks, with_one_change

    kind = _kind(output_file, files, slots)
    times = [] if mark is None else [parse_time(text) for text in mark.split(",")]
    read = [*files, *(path for path in (video, tokens) if path)]
    for path in [*files, *([tokens] if tokens else [])]:
        is_stored(path)
    if video and not is_images(video):
        check_file(video)
    outputs.check_outputs([output_file], force, read)
    if kind != "page":
        from ..plotting import check_installed

        check_installed()
    shown = [read_token_map(path, tokens) for path in files]
    for other in shown[1:]:
        same_video(shown[0], other)
    shown = with_marks(with_one_change(shown), times)
    chosen = None
    if kind == "picture":
        from ..view.sheet import chosen_slots

        events = sum((each.events() for each in shown[1:]), shown[0].events())
        chosen = chosen_slots(slots, events, shown[0].marked)
    from ..view.frames import find_video

    source = find_video(shown[0].grid.source, video, files[0])
    if source.path is not None:
        outputs.check_outputs([output_file], force, [source.path])  # a video that was found, not named
    if source.note:
        output.note(source.note)
    _note_what_is_missing(shown)
    made = {"picture": _picture, "clip": _clip, "page": _page}[kind](output_file, shown, source, chosen)
    size = output_file.stat().st_size
    if json:
        output.result_json({
            "output": str(output_file), "kind": kind, "files": [str(path) for path in files],
            "video": None if source.path is None else str(source.path), **made, "bytes": size,
        })  # fmt: skip
        return
    count = ", ".join(f"{len(value) if isinstance(value, list) else value} {name}" for name, value in made.items())
    output.result(f"{output_file}: {kind} of {count}, {output.size(size)}")


def _kind(path: Path, files: list[Path], slots: str | None) -> str:
    """Picture, clip or page. Raises RequestError for files or options that do not go with it."""
    from ..errors import RequestError

    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise RequestError(f"{path} is not a picture, clip or page.", f"End the name in {', '.join(FORMATS)}.")
    if len(files) > 2 or (len(files) == 2 and kind == "clip"):
        raise RequestError(
            f"{len(files)} files were given for a {kind}." if kind == "clip" else f"{len(files)} files are too many.",
            "Compare two files in a page or a picture: -o page.html",
        )
    if slots is not None and kind != "picture":
        raise RequestError(f"--slots is for a picture; a {kind} shows all slots.", "Leave it out, or use -o sheet.png")
    return kind


def _note_what_is_missing(shown: list[TokenMap]) -> None:
    """Tell the user which parts of the output the files have no data for, and what else there is to know."""
    for token_map in shown:
        for text in token_map.notes:
            output.note(text)
        if token_map.change is None:
            output.note(f"{token_map.name} does not hold the change signal; --tokens FILE gives it.")
        if not token_map.regions and (token_map.community >= 0).any():
            output.note(
                f"{token_map.name} holds the communities of kept tokens only; compress again to see them as regions."
            )


def _picture(path: Path, shown: list[TokenMap], source: SourceVideo, chosen: Any) -> dict[str, Any]:
    from ..view import sheet
    from ..view.frames import read_slots

    frames = {} if source.path is None else dict(read_slots(source.path, shown[0].grid, chosen, sheet.LONGEST))
    sheet.save_sheet(path, shown, chosen, frames)
    return {"slots": chosen}


def _clip(path: Path, shown: list[TokenMap], source: SourceVideo, chosen: Any) -> dict[str, Any]:  # noqa: ARG001
    from ..view.clip import save_clip

    with output.progress("frames") as progress:
        count = save_clip(path, shown[0], source.path, progress)
    return {"slots": list(range(shown[0].grid.shape[0])), "frames": count}


def _page(path: Path, shown: list[TokenMap], source: SourceVideo, chosen: Any) -> dict[str, Any]:  # noqa: ARG001
    from ..view import page
    from ..view.frames import read_slots

    slots = list(range(shown[0].grid.shape[0]))
    frames = {}
    if source.path is not None:
        with output.progress("frames", len(slots)) as update:
            for slot, frame in read_slots(source.path, shown[0].grid, slots, page.longest_side(len(slots))):
                frames[slot] = frame
                update(slot + 1)
    page.save_page(path, shown, frames, source.note)
    return {"slots": slots}
