"""Name tables: what installed packages add to them, and what a broken package does not break."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import stsimdiff_cli.methods
import stsimdiff_cli.models
from stsimdiff_cli.errors import RequestError
from stsimdiff_cli.methods import METHODS
from stsimdiff_cli.models import FAMILIES
from stsimdiff_cli.registry import Entry, Table, summary_of

METHOD = """
from dataclasses import dataclass, field
from typing import ClassVar

from stsimdiff_cli.methods.base import Method, parameter
from stsimdiff_cli.methods.uniform import Uniform


@dataclass(frozen=True)
class First(Uniform):
    '''The first tokens, if it were true.

    More of it.
    '''

    name: ClassVar[str] = "first"
    citation: ClassVar[str] = "nobody, never"
    inside: ClassVar[bool] = True

    count: int = parameter(3, "how many")
    limit: float | str = parameter(0.5, "a number or a percentile")

    @property
    def needs(self):
        return frozenset({"saliency", "keys"})


@dataclass(frozen=True)
class Undocumented(Uniform):
    name: ClassVar[str] = "undocumented"
    count: int = field(default=3)


class Undecorated(Uniform):
    name: ClassVar[str] = "undecorated"
    count: int = parameter(3, "how many")


@dataclass(frozen=True)
class Abstract(Method):
    name: ClassVar[str] = "abstract"


class Other:
    name = "other"
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """A function that makes an installed package of one module: (package, module, its text, group, entry points)."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(package: str, module: str, text: str, group: str, **points: str) -> None:
        (tmp_path / f"{module}.py").write_text(text)
        info = tmp_path / f"{package.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        lines = [f"{name.replace('_', '-')} = {module}:{target}" for name, target in points.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]) + "\n")

    yield make
    for name in {path.stem for path in tmp_path.glob("*.py")}:
        sys.modules.pop(name, None)


def fresh(table: Table) -> Table:
    """The table as a new process has it."""
    return Table(table.what, table.builtin, table.plugins)


def test_a_method_of_an_installed_package_describes_itself(install):
    install("their-methods", "theirs", METHOD, "stsimdiff.methods", first="First")
    table = fresh(METHODS)
    assert list(table) == [*METHODS.builtin, "first"]
    entry = table.entries["first"]
    assert (entry.summary, entry.citation) == ("The first tokens, if it were true", "nobody, never")
    assert (entry.needs, entry.runs) == ("keys, saliency", "tokens or LLM")
    assert (entry.target, entry.package) == ("theirs:First", "their-methods 1.2")
    assert table.load("first").name == "first"
    assert table.notes == []
    assert {entry.package for entry in METHODS.builtin.values()} == {None}


def test_other_packages_are_not_looked_for_if_the_name_is_built_in(install):
    install("their-methods", "theirs", "raise SystemExit(3)", "stsimdiff.methods", first="First")
    table = fresh(METHODS)
    assert table.load("evs").name == "evs"
    assert "evs" in table
    assert "_offers" not in vars(table)  # not even the names
    assert "first" in table
    with pytest.raises(RequestError, match="no method named 'frist'") as caught:
        table.load("frist")
    assert caught.value.hint == "Did you mean 'first'?"
    assert "theirs" not in sys.modules  # names are known without an import


@pytest.mark.parametrize(
    ("text", "target", "reason"),
    [
        ("import nothing_of_this_name", "First", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("raise SystemExit(3)", "First", "SystemExit: 3"),
        ("1 / 0", "First", "ZeroDivisionError"),
        ("first = 1", "First", "AttributeError"),
        ("First = 7", "First", "TypeError: expected a subclass of stsimdiff_cli.methods.base:Method, got 7"),
        (METHOD, "Other", "TypeError: expected a subclass of stsimdiff_cli.methods.base:Method, got <class"),
        (METHOD, "First", "TypeError: expected the class attribute name = 'broken', got 'first'"),
    ],
)
def test_a_broken_package_is_named_and_breaks_nothing_else(install, text, target, reason):
    install("their-methods", "theirs", text, "stsimdiff.methods", broken=target)
    install("good-methods", "good", METHOD, "stsimdiff.methods", first="First")
    table = fresh(METHODS)
    assert list(table) == [*METHODS.builtin, "first"]
    (note,) = table.notes
    assert note.startswith(f"The method 'broken' of the package their-methods 1.2 cannot be used: {reason}")
    for _ in range(2):
        with pytest.raises(RequestError) as caught:
            table.load("broken")
        assert str(caught.value) == note
        assert caught.value.hint == "Update the package, or remove it: pip uninstall their-methods"


@pytest.mark.parametrize(
    ("name", "target", "reason"),
    [
        ("undocumented", "Undocumented", "Undocumented.count to be declared with methods.base.parameter"),
        ("undecorated", "Undecorated", "Undecorated to be decorated with @dataclass"),
        ("abstract", "Abstract", "abstract"),
    ],
)
def test_a_method_that_would_fail_later_is_refused_at_once(install, name, target, reason):
    install("their-methods", "theirs", METHOD, "stsimdiff.methods", **{name: target})
    with pytest.raises(RequestError, match=f"{name!r} of the package their-methods 1.2 cannot be used.*{reason}"):
        fresh(METHODS).load(name)


def test_a_built_in_name_wins(install):
    install("their-methods", "theirs", METHOD, "stsimdiff.methods", fastv="First", first="First")
    table = fresh(METHODS)
    assert table.load("fastv").__module__ == "stsimdiff_cli.methods.fastv"
    assert list(table) == [*METHODS.builtin, "first"]
    assert table.notes == [
        "The method 'fastv' of the package their-methods 1.2 is ignored: the name is taken (built in)."
    ]


def test_of_two_packages_with_one_name_the_first_by_name_wins(install):
    install("b-methods", "b_theirs", METHOD, "stsimdiff.methods", first="First")
    install("a-methods", "a_theirs", METHOD, "stsimdiff.methods", first="First")
    table = fresh(METHODS)
    assert table.entries["first"].package == "a-methods 1.2"
    assert table.notes == [
        "The method 'first' of the package b-methods 1.2 is ignored: the name is taken (that of a-methods 1.2)."
    ]


def test_a_table_without_a_group_looks_for_nothing(install):
    install("their-methods", "theirs", METHOD, "stsimdiff.methods", first="First")
    table = Table("thing", {"one": Entry("stsimdiff_cli.ratio:Ratio", "one")})
    assert list(table) == ["one"]
    with pytest.raises(RequestError, match="no thing named 'first'"):
        table.load("first")


def test_values_of_an_installed_method_are_read_by_the_types_of_its_fields(install, monkeypatch):
    from stsimdiff_cli.methods import spec

    install("their-methods", "theirs", METHOD, "stsimdiff.methods", first="First")
    monkeypatch.setattr(spec, "METHODS", fresh(METHODS))
    assert spec.parse_method("first:count=7,limit=p95").parameters() == {"count": 7, "limit": "p95"}
    assert spec.spelled(spec.parse_method("first:limit=0.25,count=3")) == "first:limit=0.25"
    with pytest.raises(RequestError, match="first: count=many is not a whole number"):
        spec.parse_method("first:count=many")


def test_the_commands_name_a_broken_package_and_go_on(install, capsys, monkeypatch):
    from stsimdiff_cli.cli.app import main

    install("their-methods", "theirs", "import nothing_of_this_name", "stsimdiff.methods", broken="First")
    install("their-families", "theirs_too", "1 / 0", "stsimdiff.families", broken_vl="VL")
    monkeypatch.setattr(stsimdiff_cli.methods, "METHODS", fresh(METHODS))
    monkeypatch.setattr(stsimdiff_cli.models, "FAMILIES", fresh(FAMILIES))
    for command, names in (("methods", METHODS.builtin), ("models", FAMILIES.builtin)):
        assert main([command]) == 0
        shown = capsys.readouterr()
        assert all(name in shown.out for name in names)
        assert "warning: The m" in shown.err and "cannot be used" in shown.err
    assert main(["methods", "broken"]) == 2
    assert "pip uninstall their-methods" in capsys.readouterr().err


# --- Families ---------------------------------------------------------------------------------------------------------

FAMILY = """
from stsimdiff_cli.models.families.qwen2_vl import Qwen2VL


class Theirs(Qwen2VL):
    '''A family of their own.'''

    name = "their-vl"
    checkpoints = ("they/their-vl-1b", "they/their-vl-7b")


class ByArchitecture(Qwen2VL):
    '''One of several with the same model_type.'''

    name = "their-llava"
    architectures = ("TheirLlavaForCausalLM",)
"""


@pytest.fixture
def families(install, monkeypatch):
    install("their-families", "theirs", FAMILY, "stsimdiff.families", their_vl="Theirs", their_llava="ByArchitecture")
    table = fresh(FAMILIES)
    monkeypatch.setattr(stsimdiff_cli.models, "FAMILIES", table)
    return table


def test_a_family_of_an_installed_package_serves_its_model_type(families):
    assert families.entries["their-vl"].summary == "A family of their own"
    assert families.entries["their-vl"].checkpoints == ("they/their-vl-1b", "they/their-vl-7b")
    assert stsimdiff_cli.models.family_of({"model_type": "their-vl"}, "m") == "their-vl"
    assert families.load("their-vl").__name__ == "Theirs"


def test_a_family_with_architectures_serves_those_alone(families):
    config = {"model_type": "llava", "architectures": ["TheirLlavaForCausalLM"]}
    assert stsimdiff_cli.models.family_of(config, "m") == "their-llava"
    for config in ({"model_type": "llava", "architectures": ["Llava"]}, {"model_type": "their-llava"}):
        with pytest.raises(RequestError, match="which is not supported") as caught:
            stsimdiff_cli.models.family_of(config, "m")
        assert "their-vl" in caught.value.hint


def test_built_in_families_go_first(families):
    config = {"model_type": "qwen2_vl", "architectures": ["TheirLlavaForCausalLM"]}
    assert stsimdiff_cli.models.family_of(config, "m") == "qwen2_vl"
    assert "_offers" not in vars(families)


# --- Summaries --------------------------------------------------------------------------------------------------------


def test_a_class_without_a_docstring_has_no_summary():
    from dataclasses import dataclass

    @dataclass
    class Plain:
        number: int = 1

    class Named(Plain):
        """Not this one."""

        summary = "this one"

    assert Plain.__doc__.startswith("Plain(")
    assert (summary_of(Plain), summary_of(Named)) == ("", "this one")


def test_listing_built_in_methods_imports_no_torch():
    code = "import sys; from stsimdiff_cli.methods import METHODS; list(METHODS); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "False", done.stderr
