"""Keeps every finished clip on disk, so that a bench that was stopped goes on where it was.

One JSON object a line: first what is measured, then a line a clip. A torn last line (the power went) is left out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import RequestError
from ..storage.atomic import append_text, whole_file
from .exams import Item
from .sitting import Outcome, Sitting


class Journal:
    """The finished clips of a bench, in a file beside its report, or (path None) in memory alone."""

    def __init__(self, path: Path | None, request: dict[str, Any], force: bool = False) -> None:
        """Open or begin; RequestError if the file belongs to another request, unless `force` discards it."""
        self.path = path
        self.sittings: dict[str, Sitting] = {}
        if path is None:
            return
        header = json.loads(json.dumps(request))
        if path.exists():
            found, sittings = _load(path)
            if found == header:
                self.sittings = {sitting.name: sitting for sitting in sittings}
            elif not force:
                raise RequestError(
                    f"{path} holds an unfinished bench of other settings.", "Delete it, or discard it with --force."
                )
        with whole_file(path) as temporary:
            text = "".join(map(_line, [header, *map(_written, self.sittings.values())]))
            temporary.write_text(text, encoding="utf-8")

    def add(self, sitting: Sitting) -> None:
        """Keep a finished clip."""
        self.sittings[sitting.name] = sitting
        if self.path is not None:
            hint = "Finished clips are kept: make room and run it again."
            append_text(self.path, _line(_written(sitting)), hint)

    def close(self) -> None:
        """The report is written: the journal is no longer needed."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _load(path: Path) -> tuple[dict[str, Any], list[Sitting]]:
    """The request and the finished clips of a journal; what follows the last newline is torn."""
    try:
        header, *lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
        return header, [_read(line) for line in lines]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{path} is no journal of a bench.", "Delete it, or choose another name for -o.") from error


def _line(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False) + "\n"


def _written(sitting: Sitting) -> dict[str, Any]:
    return {
        "name": sitting.name,
        "tokens": sitting.tokens,
        "items": [list(item) for item in sitting.items],
        "blind": sitting.blind,
        "cells": [[name, ratio, vars(outcome)] for (name, ratio), outcome in sitting.cells.items()],
    }


def _read(line: dict[str, Any]) -> Sitting:
    return Sitting(
        name=line["name"],
        tokens=line["tokens"],
        items=tuple(Item(*item) for item in line["items"]),
        blind=line["blind"],
        cells={(name, ratio): Outcome(**outcome) for name, ratio, outcome in line["cells"]},
    )
