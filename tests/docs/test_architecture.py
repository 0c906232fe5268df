"""What docs/architecture.md says about the code is so: its layers, its arrows, and every path and name on it."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "stsimdiff_cli"
PAGE = (ROOT / "docs" / "architecture.md").read_text()
PATHS = sorted(set(re.findall(r"`((?:stsimdiff_cli|tests|docs|benchmarks|training)/[\w/.]*)`", PAGE)))


@pytest.fixture(scope="module")
def house():
    spec = importlib.util.spec_from_file_location("docs_house", ROOT / "docs" / "house.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def imports() -> set[tuple[str, str]]:
    """(from, to) for every import between the packages and modules right below stsimdiff_cli."""
    graph = grimp.build_graph("stsimdiff_cli", cache_dir=None)
    pairs = {
        (importer.split(".")[1], imported.split(".")[1])
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
        if "." in importer and "." in imported
    }
    return {(start, end) for start, end in pairs if start != end}


def test_the_picture_is_that_of_the_import_contract(house):
    assert house.PICTURE.read_text() == house.drawn(), "run docs/house.py (make reference)"


def test_the_layers_drawn_are_the_packages_that_exist(house):
    drawn = [name for layer in house.layers() for name in layer]
    there = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert sorted(drawn) == sorted(there - {"__init__", "__main__"})
    assert set(house.PURPOSE) == set(drawn)
    picture = house.PICTURE.read_text()
    assert all(f">{name}</text>" in picture for name in drawn)


def test_the_arrows_drawn_are_imports_and_all_imports_go_downwards(house, imports):
    assert set(house.ARROWS) <= imports
    row = {name: number for number, layer in enumerate(house.layers()) for name in layer}
    assert {(start, end) for start, end in imports if start in row and row[start] >= row[end]} == set()


def test_the_order_inside_models_is_that_of_the_contract():
    contract = (ROOT / "pyproject.toml").read_text()
    order = re.search(r'containers = \["stsimdiff_cli\.models"\].*?layers = \[(.*?)\]', contract, re.S).group(1)
    names = re.findall(r'"(\w+)"', order)
    assert ", ".join(f"`{name}`" for name in names) in " ".join(PAGE.split())


def test_every_package_of_the_house_has_a_row():
    folders = {f"stsimdiff_cli/{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")} - {
        "stsimdiff_cli/models/"
    }
    assert folders <= set(PATHS)


@pytest.mark.parametrize("path", PATHS)
def test_every_path_on_the_page_exists(path):
    assert (ROOT / path).exists()


def test_every_function_on_the_page_is_in_the_file_named_with_it():
    """`function` in `file`, or `file` ... (`function`): the file defines or imports that name."""
    claims = [
        *((path, name) for name, path in re.findall(r"`([\w.]+)`\s+in\s+`(stsimdiff_cli/[\w/]+\.py)`", PAGE)),
        *re.findall(r"`(stsimdiff_cli/[\w/]+\.py)`[^`.;]*\(`([\w.]+)`\)", PAGE),
    ]
    assert len(claims) >= 12
    for path, name in claims:
        assert {*name.split(".")} <= names_in(ROOT / path), f"{name} is not in {path}"


def names_in(path: Path) -> set[str]:
    """Names of functions and classes that a module defines."""
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
