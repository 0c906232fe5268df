"""Values from text by the types of fields, and the tables of methods and models for the documentation."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import pytest
import torch

from stsimdiff_cli.graph.numerics import stable_topk
from stsimdiff_cli.methods import METHODS
from stsimdiff_cli.methods.spec import convert
from stsimdiff_cli.models import FAMILIES
from tests.support.clip_factory import SAMPLES


@pytest.mark.parametrize(
    ("text", "wanted", "value"),
    [
        ("on", bool, True),
        ("False", bool, False),
        ("7", int, 7),
        (7.0, int, 7),
        ("9223372036854775807", int, 2**63 - 1),  # exact, not by way of a float
        ("0.5", float, 0.5),
        (1, float, 1.0),
        ("0.5", str, "0.5"),
        (0.07, str, "0.07"),
        ("", str, ""),
        ("0.2", float | str, 0.2),
        ("p95", float | str, "p95"),
        ("8", int | None, 8),
        ("1.5", float | None, 1.5),
        ("4bit", str | None, "4bit"),
    ],
)
def test_a_value_is_read_as_the_type_of_its_field(text: Any, wanted: Any, value: Any) -> None:
    got = convert(text, wanted)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("text", "wanted", "expected"),
    [
        ("maybe", bool, "on or off"),
        ("1.5", int, "a whole number"),
        (1.5, int, "a whole number"),
        (float("nan"), int, "a whole number"),
        ("many", int | None, "a whole number"),
        ("high", float, "a number"),
        ("", float | str, "a number"),
        ("-p5", float | str, "a number"),
        (None, float, "a number"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_what_was_expected(text: Any, wanted: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=f"^{expected}$"):
        convert(text, wanted)


def test_the_highest_come_first_and_ties_go_to_the_lower_position() -> None:
    score = torch.tensor([0.5, 2.0, 2.0, -1.0, 2.0])
    assert stable_topk(score, 2).tolist() == [1, 2]
    assert stable_topk(score, 4).tolist() == [1, 2, 4, 0]
    assert stable_topk(torch.stack([score, -score]), 2).tolist() == [[1, 2], [3, 0]]
    assert stable_topk(score, 0).tolist() == []
    many = torch.randint(5, (1000,), generator=torch.Generator().manual_seed(0))
    assert stable_topk(many, 1000).tolist() == sorted(range(1000), key=lambda i: (-int(many[i]), i))


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    """The script docs/tables.py."""
    spec = importlib.util.spec_from_file_location("docs_tables", SAMPLES.parent / "docs" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_built_in_method_and_family_has_a_row(tables: ModuleType) -> None:
    for table, names in ((tables.methods_table(), METHODS.builtin), (tables.models_table(), FAMILIES.builtin)):
        header, rule, *rows = table.splitlines()
        assert [row.split("`")[1] for row in rows] == list(names)
        assert {line.count(" | ") + line.count("| |") for line in rows} == {header.count(" | ")}, "as many cells"
        assert set(rule) <= set("| -")


def test_a_row_has_the_parameters_with_defaults_and_choices(tables: ModuleType) -> None:
    row = next(line for line in tables.methods_table().splitlines() if line.startswith("| `prumerge` "))
    assert row == (
        "| `prumerge` | what the vision encoder attends to, with nearest neighbours merged in | keys, saliency "
        "| `neighbors=32`, `extra=on` | tokens | Shang et al., ICCV 2025 |"
    )
    assert "`split=time` (space)" in tables.parameters("st-simdiff")


def test_marked_places_are_filled_and_the_rest_of_a_page_stays(tables: ModuleType) -> None:
    other = "<!-- table x | y -->\nold\n<!-- end -->\n"
    page = f"a\n<!-- methods -->\nold\n<!-- end -->\nb\n{other}<!-- models -->\n<!-- end -->\nc\n"
    filled = tables.filled(page)
    assert tables.filled(filled) == filled
    methods, models = tables.methods_table(), tables.models_table()
    assert filled == (
        f"a\n<!-- methods -->\n\n{methods}\n\n<!-- end -->\nb\n{other}<!-- models -->\n\n{models}\n\n<!-- end -->\nc\n"
    )
