"""Parses what a user asks to have measured."""

from __future__ import annotations

from ..errors import RequestError
from ..methods.spec import FILE, parse_method, shown, split_methods


def parse_frames(text: str) -> list[int]:
    """Numbers of frames, `32,64`, each once and in the order given. RequestError for anything else."""
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise RequestError(f"--frames {text} is not a list of numbers above 0.", "Write e.g. --frames 32,64,96,128")
    return list(dict.fromkeys(counts))


def parse_methods(text: str, importance: str | None = None) -> list[str]:
    """The methods of a list, all of them valid, without the form that tables write: `fastv` for `fastv@file`.

    RequestError for an unknown method or parameter, or if `importance` is given and no method ranks tokens by it.
    """
    bare = {spec: spec.removesuffix(f"@{FILE}") for spec in split_methods(text)}
    specs = list(dict.fromkeys(name if shown(name) == spec else spec for spec, name in bare.items()))
    ranking = [spec for spec in specs if "importance" in parse_method(spec).parameters()]
    if importance is not None:
        if not ranking:
            raise RequestError(f"None of {text} ranks by importance.", "Leave out --importance.")
        parse_method(ranking[0], importance=importance)
    return specs
