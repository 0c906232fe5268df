"""Keeps every answer on disk, one JSON object a line, so that a run that was stopped goes on where it was.

A folder holds `request.json` (what decides an answer beside method and ratio) and `items.jsonl`. Methods, ratios and
questions may be added later: what is there already is not asked again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import RequestError
from ..storage.atomic import append_text, save_json
from .tasks.base import Item

REQUEST, ITEMS = "request.json", "items.jsonl"


@dataclass(frozen=True)
class Line:
    """A contender's answer to a question.

    `raw` is what the model said and `parsed` the letter that was extracted from it; where there is none, `parsed` is a
    guess or empty, as the benchmark has it. `right` is null without a public label. kept and tokens count visual
    tokens; seconds are those of "encode", "select" and "prefill" (of the whole video) and of the "answer".
    """

    id: str
    video: str
    method: str
    ratio: float
    prompt: str
    raw: str
    parsed: str
    extracted: bool
    answer: str | None
    right: bool | None
    kept: int
    tokens: int
    seconds: dict[str, float]

    @property
    def key(self) -> tuple[str, float, str]:
        """Method, ratio and question: what a line is looked up by."""
        return self.method, self.ratio, self.id


class Lines:
    """The answers so far, in a folder or (None) in memory alone."""

    def __init__(self, folder: Path | None, request: dict[str, Any], force: bool = False) -> None:
        """Open or begin; RequestError if the folder belongs to another request, unless `force` discards it."""
        self.folder = folder
        self._found: dict[tuple[str, float, str], Line] = {}
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = f"{folder} cannot be a folder: {error.strerror}."
            raise RequestError(reason, "Choose another place for -o.") from error
        wanted = json.loads(json.dumps(request))
        if force:
            self._items.unlink(missing_ok=True)
        elif (folder / REQUEST).exists():
            self._same(_object(folder / REQUEST), wanted)
            self._load()
        elif self._items.exists():
            raise RequestError(f"{self._items} has no {REQUEST} beside it.", "Choose another folder, or use --force.")
        save_json(folder / REQUEST, wanted, indent=2)

    def __getitem__(self, key: tuple[str, float, str]) -> Line:
        return self._found[key]

    def __contains__(self, key: object) -> bool:
        return key in self._found

    def add(self, lines: Iterable[Line]) -> None:
        """Keep the answers about a video: they are on the disk when this returns."""
        new = list(lines)
        self._found |= {line.key: line for line in new}
        if self.folder is not None:
            text = "".join(json.dumps(asdict(line), ensure_ascii=False) + "\n" for line in new)
            append_text(self._items, text, "Answers so far are kept: make room and run it again.")

    def check(self, items: Iterable[Item]) -> None:
        """RequestError if a kept answer is one to another question than that of the same id in `items`."""
        asked = {item.id: (item.prompt, item.answer) for item in items}
        for line in self._found.values():
            if line.id in asked and asked[line.id] != (line.prompt, line.answer):
                raise RequestError(
                    f"{self._items} holds another question with the id {line.id}.",
                    "The data has changed: choose another folder for -o, or discard the answers with --force.",
                )

    @property
    def _items(self) -> Path:
        assert self.folder is not None
        return self.folder / ITEMS

    def _same(self, found: dict[str, Any], wanted: dict[str, Any]) -> None:
        other = [name for name in wanted if found.get(name) != wanted[name]]
        if other:
            told = ", ".join(f"{name} ({found.get(name)}, now {wanted[name]})" for name in other)
            raise RequestError(
                f"{self.folder} holds a run of other settings: {told}.",
                "Choose another folder for -o, or discard it with --force.",
            )

    def _load(self) -> None:
        """Read what is whole. What follows the last newline is torn (the power went) and is cut off."""
        if not self._items.exists():
            return
        text = self._items.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        try:
            lines = [Line(**json.loads(row)) for row in whole.decode().splitlines()]
        except (ValueError, TypeError) as error:
            raise RequestError(
                f"{self._items} holds something else than answers: {error}.",
                "Choose another folder for -o, or discard it with --force.",
            ) from error
        self._found = {line.key: line for line in lines}
        if len(whole) < len(text):
            os.truncate(self._items, len(whole))


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise RequestError(f"{path} is not what this program wrote.", "Choose another folder, or use --force.")
    return found
