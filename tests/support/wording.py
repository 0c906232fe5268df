"""Finds the sentences that a package shows to people, and the odd phrases in them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

#: Phrases that a native speaker would not use, or not in that sense.
ODD = re.compile(
    r"""\b(?:
        beside | behind | whoever | that\ which | who\ reads? | by\ nobody | likeliest
        | (?<!there\ )(?:is|are)\ no\ (?!longer)     # "2 is no cosine"
        | belongs?\ together | excludes?\ each\ other
        | 's\ eyes | with\ commas | neither\ more\ nor\ less
    )\b""",
    re.IGNORECASE | re.VERBOSE,
)
#: Functions besides errors whose arguments are shown.
SHOWN_BY = {"note", "warn", "error", "_warn", "unknown_name"}


class Sentence(NamedTuple):
    """A text in a source file."""

    file: str
    line: int
    text: str


def sentences(folder: Path, root: Path) -> Iterator[Sentence]:
    """Docstrings, help texts, and the messages of errors and notes in all modules of a folder.

    Values in a formatted text are written as {}.
    """
    for path in sorted(folder.rglob("*.py")):
        for node in _shown(ast.parse(path.read_text())):
            if text := _text(node):
                yield Sentence(path.relative_to(root).as_posix(), node.lineno, " ".join(text.split()))


def odd_sentences(folder: Path, root: Path) -> Iterator[Sentence]:
    """The sentences with an odd phrase."""
    return (sentence for sentence in sentences(folder, root) if ODD.search(sentence.text))


def _shown(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if ast.get_docstring(node) is not None and isinstance(node.body[0], ast.Expr):
                yield node.body[0].value
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name.endswith("Error") or name in SHOWN_BY:
                yield from node.args
            yield from (keyword.value for keyword in node.keywords if keyword.arg in ("help", "hint"))


def _text(node: ast.expr) -> str:
    """The text of a literal, the parts of a formatted one, or "" for anything else."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    if isinstance(node, ast.IfExp):
        return f"{_text(node.body)} {_text(node.orelse)}"
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    return ""
