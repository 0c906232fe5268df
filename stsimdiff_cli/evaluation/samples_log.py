"""Keeps every response on disk, one JSON object a line, so that a run that was stopped goes on where it was.

`stsimdiff eval` has a folder with `request.json` (what decides an answer besides method and ratio) and `items.jsonl`.
Methods, ratios and questions may be added later: what is there already is not asked again. `stsimdiff bench` has one
file next to its report, whose first line is the request, plan included; it goes when the report is written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import RequestError
from ..storage.atomic import append_text, save_json, whole_file
from ..storage.regular import check_file
from .tasks.base import Sample

REQUEST, ITEMS = "request.json", "items.jsonl"
_DISCARD = "Choose another folder for -o, or discard it with --force."
#: What not every answer has: left out of the lines of others.
_OPTIONAL = ("coverage", "event_recall", "live")


@dataclass(frozen=True)
class Response:
    """A variant's answer to a question.

    `raw` is what the model said and `parsed` what it is scored by: words, or the letter that was extracted; where there
    is none, a guess or nothing, as the benchmark has it. `right` is null without a known answer. kept and tokens count
    visual tokens; seconds are those of "encode", "select" and "prefill" (of the whole video) and of the "answer": its
    share, where several questions were asked together.
    coverage and event_recall: see fidelity.py; null inside the LLM, event_recall also if nothing changes. live: visual
    tokens alive after each layer, inside the LLM only.
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
    coverage: float | None = None
    event_recall: float | None = None
    live: list[int] | None = None

    @property
    def key(self) -> tuple[str, float, str]:
        """Method, ratio and question: what a response is looked up by."""
        return self.method, self.ratio, self.id

    def line(self) -> str:
        """The response as a line of JSON."""
        fields = asdict(self)
        return _line({name: value for name, value in fields.items() if value is not None or name not in _OPTIONAL})


class SamplesLog:
    """The responses so far; `file` None keeps them in memory alone."""

    def __init__(self, file: Path | None = None, responses: Iterable[Response] = ()) -> None:
        self.file = file
        self._responses = {response.key: response for response in responses}

    @classmethod
    def in_folder(cls, folder: Path, request: dict[str, Any], force: bool = False) -> SamplesLog:
        """Open or begin the log in a folder.

        RequestError if the folder belongs to another request or to something else; `force` discards what is there.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = f"{folder} cannot be a folder: {error.strerror}."
            raise RequestError(reason, "Choose another place for -o.") from error
        file, responses = folder / ITEMS, []
        request = _as_stored(request)
        if force:
            file.unlink(missing_ok=True)
        elif (folder / REQUEST).exists():
            _check_request(folder, request)
            if file.exists():
                responses = _continued(file)
        elif file.exists():
            raise RequestError(f"{file} has no {REQUEST} next to it.", "Choose another folder, or use --force.")
        save_json(folder / REQUEST, request, indent=2)
        return cls(file, responses)

    @classmethod
    def in_file(cls, file: Path, request: dict[str, Any], force: bool = False) -> SamplesLog:
        """Open or begin the log in a file.

        RequestError if the file belongs to something else or, unless `force` discards it, to another request.
        """
        request, responses = _as_stored(request), []
        if file.exists():
            check_file(file)
            try:
                header, *lines = _whole_lines(file)
                stored, responses = json.loads(header), _responses(lines)
            except (OSError, ValueError, TypeError) as error:
                hint = "Delete it, or choose another name for -o."
                raise RequestError(f"{file} is not the log of a bench.", hint) from error
            if stored != request:
                if not force:
                    hint = "Delete it, or discard it with --force."
                    raise RequestError(f"{file} holds an unfinished bench of other settings.", hint)
                responses = []
        with whole_file(file) as temporary:
            text = _line(request) + "".join(response.line() for response in responses)
            temporary.write_text(text, encoding="utf-8")
        return cls(file, responses)

    def __getitem__(self, key: tuple[str, float, str]) -> Response:
        return self._responses[key]

    def __contains__(self, key: object) -> bool:
        return key in self._responses

    def add(self, responses: Iterable[Response]) -> None:
        """Keep the responses about a video: they are on the disk when this returns."""
        new = list(responses)
        self._responses |= {response.key: response for response in new}
        if self.file is not None:
            text = "".join(response.line() for response in new)
            append_text(self.file, text, "Answers so far are kept: make room and run it again.")

    def check(self, samples: Iterable[Sample]) -> None:
        """RequestError if a kept response answers another question than that of the same id in `samples`."""
        asked = {sample.id: (sample.prompt, sample.answer) for sample in samples}
        for response in self._responses.values():
            if response.id in asked and asked[response.id] != (response.prompt, response.answer):
                raise RequestError(
                    f"{self.file} holds another question with the id {response.id}.",
                    "The data has changed: choose another folder for -o, or discard the answers with --force.",
                )

    def discard(self) -> None:
        """Delete the file: what it was for is written."""
        if self.file is not None:
            self.file.unlink(missing_ok=True)


def _check_request(folder: Path, request: dict[str, Any]) -> None:
    """RequestError that names the differing settings if the folder holds another request."""
    path = folder / REQUEST
    check_file(path)
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        stored = None
    if not isinstance(stored, dict):
        raise RequestError(f"{path} is not what this program wrote.", "Choose another folder, or use --force.")
    other = [name for name in request if stored.get(name) != request[name]]
    if other:
        settings = ", ".join(f"{name} ({stored.get(name)}, now {request[name]})" for name in other)
        raise RequestError(f"{folder} holds a run of other settings: {settings}.", _DISCARD)


def _continued(file: Path) -> list[Response]:
    """The responses in a file of nothing else; a torn last line is cut off."""
    check_file(file)
    lines = _whole_lines(file)
    try:
        responses = _responses(lines)
    except (ValueError, TypeError) as error:
        raise RequestError(f"{file} holds something else than answers: {error}.", _DISCARD) from error
    os.truncate(file, sum(len(line) + 1 for line in lines))
    return responses


def _whole_lines(file: Path) -> list[bytes]:
    """The lines of a file; what follows the last newline is torn (the power went) and left out."""
    return file.read_bytes().split(b"\n")[:-1]


def _responses(lines: Iterable[bytes]) -> list[Response]:
    return [Response(**json.loads(line)) for line in lines]


def _line(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False) + "\n"


def _as_stored(request: dict[str, Any]) -> dict[str, Any]:
    """The request as JSON gives it back."""
    return json.loads(json.dumps(request))
