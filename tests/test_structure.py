"""What the house promises to whoever moves in: few modules at the root, short parameter lists, small files."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "stsimdiff_cli"
MODULES = sorted(PACKAGE.rglob("*.py"))


def public_functions(tree: ast.Module):
    """Functions and methods that have no underscore in front, and constructors of public classes."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name, node
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and (item.name == "__init__" or not item.name.startswith("_")):
                    yield f"{node.name}.{item.name}", item


def test_the_root_of_the_package_holds_at_most_ten_modules():
    assert len([path for path in PACKAGE.glob("*.py") if not path.stem.startswith("__")]) <= 10


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_public_function_takes_more_than_eight_parameters(path):
    """The command line is left out: there, a parameter is an option."""
    if path.is_relative_to(PACKAGE / "cli"):
        return
    for name, node in public_functions(ast.parse(path.read_text())):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        taken = [argument.arg for argument in arguments if argument.arg not in ("self", "cls")]
        assert len(taken) <= 8, f"{name} takes {len(taken)}: {', '.join(taken)}"


def test_every_package_says_in_its_first_line_what_it_is_for():
    for path in PACKAGE.rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path
