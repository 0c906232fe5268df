"""What `import stsimdiff_cli` offers: names that load when used, and that type checkers and completion see."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import stsimdiff_cli

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "stsimdiff_cli"


def type_checking_imports() -> dict[str, str]:
    """Name -> module, as the imports for type checkers say."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    return {alias.name: f".{node.module}" for node in block.body for alias in node.names}


def test_type_checkers_completion_and_the_program_see_the_same_names():
    assert type_checking_imports() == stsimdiff_cli._MODULE_OF
    assert sorted(stsimdiff_cli.__all__) == sorted({"__version__", *stsimdiff_cli._MODULE_OF})
    assert set(stsimdiff_cli.__all__) <= set(dir(stsimdiff_cli))


@pytest.mark.parametrize("name", stsimdiff_cli.__all__)
def test_every_public_name_can_be_loaded(name):
    assert getattr(stsimdiff_cli, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'encode_vidoe'"):
        _ = stsimdiff_cli.encode_vidoe


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, stsimdiff_cli; dir(stsimdiff_cli); print({'torch', 'numpy', 'typer'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "set()\n"


def test_the_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").is_file()
    assert '"stsimdiff_cli" = ["py.typed"]' in (ROOT / "pyproject.toml").read_text()


def test_the_api_page_has_every_public_name():
    page = (ROOT / "docs" / "python.md").read_text()
    documented = set(re.findall(r"^\.\. auto\w+:: (\w+)$", page, re.M))
    assert documented == set(stsimdiff_cli.__all__) - {"__version__"}
