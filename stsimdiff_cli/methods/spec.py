"""Methods as text: `name:parameter=value,...`, read and written."""

from __future__ import annotations

from dataclasses import Field, fields
from typing import Any

from ..errors import RequestError
from ..registry import unknown_name, written
from . import METHODS
from .base import Method


def parse_method(spec: str, **overrides: str) -> Method:
    """Build a method from `name` or `name:parameter=value,...`, e.g. `st-simdiff:tau_sim=0.8,events=off`.

    `overrides` (also as text) win over the text. RequestError names an unknown method or parameter, or a value that
    does not fit.
    """
    name, _, rest = spec.partition(":")
    cls = METHODS.load(name.strip())
    known = {item.name: item for item in fields(cls)}
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
        values[key] = _parse_value(name, known[key], text.strip())
    for key, value in overrides.items():
        if key not in known:
            raise RequestError(f"The method {name} has no parameter {key}.", f"Leave out --{key}.")
        values[key] = _parse_value(name, known[key], value)
    method: Method = cls(**values)
    return method


def spelled(method: Method) -> str:
    """The shortest text from which `parse_method` makes this method: defaults are left out."""
    given = [
        f"{item.name}={written(value)}"
        for item in fields(method)
        if (value := getattr(method, item.name)) != item.default
    ]
    return method.name + ":" * bool(given) + ",".join(given)


def split_methods(text: str) -> list[str]:
    """The methods of a list like `vanilla,st-simdiff:tau_sim=0.8,tau_diff=p95`, each once, not yet parsed.

    A piece like tau_diff=p95 belongs to the method before it.
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


def _parse_value(method: str, item: Field[Any], text: str) -> Any:
    """Read one value by the type of the parameter's default."""
    try:
        if isinstance(item.default, bool):
            return {"on": True, "off": False, "true": True, "false": False}[text.lower()]
        if isinstance(item.default, int):
            return int(text)
        if isinstance(item.default, float):
            percentile = "str" in str(item.type) and text[:1] in ("p", "P")
            return text if percentile else float(text)
    except (KeyError, ValueError):
        kind = {bool: "on or off", int: "a whole number", float: "a number"}[type(item.default)]
        raise RequestError(
            f"{method}: {item.name}={text} is not {kind}.", f"The default is {written(item.default)}."
        ) from None
    return text
