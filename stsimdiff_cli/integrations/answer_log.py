"""Keeps answers on disk as they are given, so that a run that was killed goes on where it was.

folder/HOST-PID-NUMBER.jsonl     a line an answer: [key, text]; each process writes a file of its own
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

from ..storage.atomic import append_text


class AnswerLog:
    """Answers by key. `folder` None keeps nothing. What other processes write later is not seen."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._file: Path | None = None
        self._known: dict[str, str] = {}
        for file in sorted(folder.glob("*.jsonl")) if folder is not None and folder.is_dir() else ():
            self._known |= _answers(file)

    def __bool__(self) -> bool:
        return bool(self._known)

    def get(self, key: str) -> str | None:
        """The answer with this key, None if there is none."""
        return self._known.get(key)

    def keep(self, answers: Mapping[str, str]) -> None:
        """Keep answers: they are on the disk when this returns."""
        if self._folder is None:
            return
        self._known |= answers
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = self._folder / f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}.jsonl"
        text = "".join(json.dumps(pair) + "\n" for pair in answers.items())
        append_text(self._file, text, "Answers so far are kept: make room and run it again.")


def _answers(file: Path) -> dict[str, str]:
    """The answers in a file. A line that is torn or of another kind is passed over."""
    found: dict[str, str] = {}
    for line in file.read_bytes().split(b"\n")[:-1]:
        try:
            key, text = json.loads(line)
        except ValueError:
            continue
        if isinstance(key, str) and isinstance(text, str):
            found[key] = text
    return found
