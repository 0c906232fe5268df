"""With --json every command prints the object that docs/json-schema.json describes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.commands import run
from tests.support.json_schema import SCHEMA, check, faults

REPORTS = Path(__file__).parents[2] / "benchmarks" / "reports"


def printed(capsys, *args: object, code: int = 0) -> list[dict]:
    got, out, err = run(capsys, *args, "--json")
    assert got == code, err
    for line in err.splitlines():
        check("message", json.loads(line))
    return [json.loads(line) for line in out.splitlines()]


def test_encode_and_compress(capsys, clip, tmp_path):
    check("encode", *printed(capsys, "encode", clip, "-o", tmp_path / "t", "--frames", 4))
    for number, method in enumerate(("st-simdiff", "uniform")):
        output = tmp_path / f"c{number}"
        check("compress", *printed(capsys, "compress", tmp_path / "t", "-o", output, "--ratio", 1, "--method", method))


def test_ask(capsys, kept, tokens, tmp_path):
    check("ask", *printed(capsys, "ask", kept, "How many objects are there?", "--when", "--max-new-tokens", 2))
    inside = ("--inside", "fastv", "--ratio", 0.5)
    check("ask", *printed(capsys, "ask", tokens, "How many objects are there?", "--max-new-tokens", 2, *inside))
    (tmp_path / "bad.safetensors").write_bytes(b"bad")
    (row,) = printed(capsys, "ask", tmp_path, "Why?", code=1)
    check("ask", row)
    assert row["error"]


def test_many_videos_and_their_status(capsys, clip, tmp_path):
    many = ("-o", tmp_path / "out", "--workers", 0, "--frames", 2)
    check("many", *printed(capsys, "encode", clip, clip, *many))
    check("status", *printed(capsys, "status", tmp_path / "out"))


@pytest.mark.parametrize("file", ["kept", "tokens"])
def test_inspect(capsys, file, request):
    check("inspect", *printed(capsys, "inspect", request.getfixturevalue(file)))


def test_view(capsys, kept, tmp_path):
    check("view", *printed(capsys, "view", kept, "-o", tmp_path / "page.html"))


@pytest.mark.parametrize("args", [["methods"], ["methods", "st-simdiff"], ["methods", "uniform"], ["models"]])
def test_lists(capsys, args):
    check(args[0], *printed(capsys, *args))


@pytest.mark.parametrize(("name", "file"), [("bench", "methods.json"), ("eval", "eval/videomme.json")])
def test_reports(name, file):
    check(name, json.loads((REPORTS / file).read_text()) | {"warnings": []})


def test_errors(capsys):
    assert printed(capsys, "inspect", "missing", code=2) == []


def test_a_key_has_one_type_in_all_commands():
    """What is not in a report of measurements."""
    kinds: dict[str, set[str]] = {}

    def visit(schema):
        for name, inner in schema.get("properties", {}).items():
            target = SCHEMA["$defs"][inner["$ref"].removeprefix("#/$defs/")] if "$ref" in inner else inner
            types = target["type"] if isinstance(target["type"], list) else [target["type"]]
            kinds.setdefault(name, set()).update(set(types) - {"null"})
            visit(inner)
        for inner in [schema[name] for name in ("items",) if name in schema] + schema.get("oneOf", []):
            visit(inner)

    for name in SCHEMA["$defs"].keys() - {"bench", "eval", "profile"}:
        visit(SCHEMA["$defs"][name])
    several = {name for name, types in kinds.items() if len(types) > 1}
    # A name and the record of what it names; parameters by value or described; defaults of all kinds.
    assert several == {"model", "method", "source", "parameters", "error", "default"}
    assert kinds["seconds"] == kinds["video_seconds"] == {"number"} and kinds["stage_seconds"] == {"object"}


def test_the_checker_finds_what_is_wrong():
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    assert faults({"a": 1, "b": 2}, schema) == []
    assert faults({"b": 2}, schema) == [" lacks a"]
    assert faults({"a": "x"}, schema) and faults({"a": True}, schema) and faults([], schema)
    assert faults({"a": 1, "b": 2}, {**schema, "additionalProperties": False}) == [" has b, which is not described"]
