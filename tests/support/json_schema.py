"""Checks values against docs/json-schema.json: the few keywords of JSON Schema that it uses, and no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "json-schema.json").read_text())
KEYWORDS = {
    "$ref", "type", "properties", "required", "additionalProperties", "items", "minItems", "maxItems", "minimum",
    "oneOf", "description",
}  # fmt: skip
TYPES = {
    "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "integer": int,
    "number": (int, float),
}  # fmt: skip


def faults(value: Any, schema: Any, at: str = "") -> list[str]:
    """What is wrong with a value, each with its place; [] if nothing is."""
    assert set(schema) <= KEYWORDS, f"unknown keywords in the schema: {set(schema) - KEYWORDS}"
    if "$ref" in schema:
        return faults(value, SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")], at)
    if "oneOf" in schema:
        tried = [faults(value, one, at) for one in schema["oneOf"]]
        return [] if sum(not found for found in tried) == 1 else [f"{at} fits not one form: {tried}"]
    kinds = schema.get("type", list(TYPES))
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if not any(isinstance(value, TYPES[kind]) and (kind == "boolean" or value is not True) for kind in kinds):
        return [f"{at} is {value!r}, not {kinds}"]
    found = []
    if isinstance(value, dict):
        known, other = schema.get("properties", {}), schema.get("additionalProperties", {})
        found += [f"{at} lacks {name}" for name in schema.get("required", ()) if name not in value]
        for name, item in value.items():
            if name not in known and other is False:
                found.append(f"{at} has {name}, which is not described")
            else:
                found += faults(item, known.get(name, other), f"{at}.{name}")
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            found.append(f"{at} has {len(value)} items")
        for number, item in enumerate(value):
            found += faults(item, schema.get("items", {}), f"{at}[{number}]")
    if isinstance(value, int | float) and value < schema.get("minimum", value):
        found.append(f"{at} is {value}")
    return found


def check(name: str, value: Any) -> None:
    """Fail for a value that is not what the schema says under a name."""
    assert faults(value, SCHEMA["$defs"][name], name) == []
