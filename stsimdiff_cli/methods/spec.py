"""Methods as text, `name:parameter=value,...`: reading and writing them."""

from __future__ import annotations

from dataclasses import Field, fields
from types import NoneType
from typing import Any, get_args, get_type_hints

from ..errors import RequestError
from ..registry import unknown_name, written
from . import INSIDE, METHODS
from .base import Method

#: After a method that also works inside the LLM: one file for all questions. Tables write it; a name leaves it out.
FILE = "file"


def parse_method(spec: str, **overrides: str) -> Method:
    """Build a method from `name` or `name:parameter=value,...`, e.g. `st-simdiff:tau_sim=0.8,events=off`.

    `overrides` (also as text) take precedence over the text. RequestError for an unknown method or parameter, and for
    a value that does not fit.
    """
    name, _, rest = spec.partition(":")
    cls = METHODS.load(name.strip())
    known = {item.name: item for item in fields(cls)}
    types = get_type_hints(cls)
    values: dict[str, Any] = {}
    for part in filter(None, (piece.strip() for piece in rest.split(","))):
        key, equals, text = part.partition("=")
        key = key.strip()
        if not known:
            raise RequestError(f"The method {name} has no parameters.", f"Write --method {name}")
        if key not in known:
            raise unknown_name(f"parameter of {name}", key, list(known))
        if not equals:
            default = written(known[key].default)
            raise RequestError(f"The parameter {key} has no value.", f"Write {name}:{key}={default}")
        if key in values:
            raise RequestError(f"The parameter {key} of {name} is given twice.", "Give it once.")
        values[key] = _value(name, known[key], types[key], text.strip())
    for key, value in overrides.items():
        if key not in known:
            raise RequestError(f"The method {name} has no parameter {key}.", f"Leave out --{key}.")
        values[key] = _value(name, known[key], types[key], value)
    method: Method = cls(**values)
    return method


def spelled(method: Method) -> str:
    """The shortest text that `parse_method` reads as this method: defaults are left out."""
    given = [
        f"{item.name}={written(value)}"
        for item in fields(method)
        if (value := getattr(method, item.name)) != item.default
    ]
    return method.name + ":" * bool(given) + ",".join(given)


def shown(name: str) -> str:
    """A method's text as tables write it: with its form where it has several, so that `fastv` is `fastv@file`."""
    method, at, _ = name.partition("@")
    entry = METHODS.entries.get(method.partition(":")[0])
    return name if at or entry is None or entry.runs != INSIDE else f"{name}@{FILE}"


def split_methods(text: str) -> list[str]:
    """Split a list like `vanilla,st-simdiff:tau_sim=0.8,tau_diff=p95` into methods, each once, not yet parsed.

    A piece like tau_diff=p95 belongs to the method before it. RequestError for an empty list.
    """
    specs: list[str] = []
    for piece in filter(None, (part.strip() for part in text.split(","))):
        if specs and "=" in piece and ":" not in piece:
            specs[-1] += f",{piece}"
        else:
            specs.append(piece)
    if not specs:
        raise RequestError("There is no method to measure.", "Write e.g. --methods vanilla,st-simdiff")
    return list(dict.fromkeys(specs))


def _value(method: str, item: Field[Any], wanted: Any, text: str) -> Any:
    """The value of a parameter; RequestError if it does not fit."""
    try:
        return convert(text, wanted)
    except ValueError as error:
        raise RequestError(
            f"{method}: {item.name}={text} is not {error}.", f"The default is {written(item.default)}."
        ) from None


def convert(value: Any, wanted: Any) -> Any:
    """A value as the type of a dataclass field: bool, int, float, str or a union of them, perhaps with None.

    `value` is text, or a number that somebody has parsed already. In a union, numbers go before text, and text must
    begin with a letter: `float | str` takes 0.2 and p95. ValueError with the words for what was expected.
    """
    types = [each for each in get_args(wanted) or (wanted,) if each is not NoneType]
    for each in types:
        if each is str and (len(types) == 1 or str(value)[:1].isalpha()):
            return str(value)
        if each is not str and (converted := _number(value, each)) is not None:
            return converted
    raise ValueError(_EXPECTED[types[0]])


_EXPECTED = {bool: "on or off", int: "a whole number", float: "a number", str: "text"}


def _number(value: Any, wanted: type) -> Any:
    """A value as a bool, an int or a float; None if it is not one."""
    try:
        if wanted is bool:
            return {"on": True, "off": False, "true": True, "false": False}[str(value).lower()]
        if wanted is int and isinstance(value, float):  # 64.0 is a whole number, 1.5 and nan are not
            return int(value) if value.is_integer() else None
        return wanted(value)
    except (KeyError, TypeError, ValueError):
        return None
