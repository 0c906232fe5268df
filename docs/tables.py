"""Writes the tables of methods, model families and hostile tests into the pages that show them.

    python docs/tables.py

A page marks the place of a table with `<!-- methods -->`, `<!-- models -->` or `<!-- hostile -->` before it and
`<!-- end -->` after it. The first two come from the registries and the classes behind them; only built-in methods and
families have a row. The last one is the report of `make test-hostile`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

from stsimdiff_cli.methods import METHODS, needs_and_runs
from stsimdiff_cli.models import FAMILIES
from stsimdiff_cli.registry import written

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
PLACE = re.compile(r"(<!-- (methods|models|hostile) -->\n)(.*?)(<!-- end -->)", re.S)


def methods_table() -> str:
    """Every built-in method as a row of a Markdown table."""
    rows = []
    for name, entry in METHODS.builtin.items():
        needs, runs = needs_and_runs(METHODS.load(name))
        rows.append([f"`{name}`", entry.summary, needs, parameters(name), runs, entry.citation])
    return _markdown(["`--method`", "keeps", "needs", "parameters and defaults", "runs", "source"], rows)


def parameters(method: str) -> str:
    """The parameters of a method with their defaults, and the other choices in brackets."""
    items = []
    for item in fields(METHODS.load(method)):
        others = [choice for choice in item.metadata["choices"] if choice != item.default]
        items.append(f"`{item.name}={written(item.default)}`" + (f" ({', '.join(others)})" if others else ""))
    return ", ".join(items)


def models_table() -> str:
    """Every built-in model family as a row of a Markdown table."""
    rows = [
        [f"`{name}`", entry.summary, ", ".join(entry.checkpoints) or "none known"]
        for name, entry in FAMILIES.builtin.items()
    ]
    return _markdown(["`model_type`", "what it is", "checkpoints"], rows)


def hostile_table() -> str:
    """What the last full run of `make test-hostile` tried, and where."""
    report = json.loads((ROOT / "benchmarks" / "reports" / "hostile.json").read_text())
    rows = [[row["class"], f"{row['tried']:,}", f"{row['failed']:,}"] for row in report["classes"]]
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    about = f"{report['date'][:10]}, seed {report['seed']}, {report['minutes']:.0f} minutes, {versions}."
    return f"{_markdown(['class', 'tried', 'failed'], rows)}\n\n{about}"


def _markdown(header: list[str], rows: Iterable[list[str]]) -> str:
    """A table in Markdown, without the last line break."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)


def filled(page: str) -> str:
    """The text of a page with its tables as the registries and the report have them."""
    tables = {"methods": methods_table, "models": models_table, "hostile": hostile_table}
    return PLACE.sub(lambda match: f"{match[1]}\n{tables[match[2]]()}\n\n{match[4]}", page)


def main() -> None:
    """Rewrite the pages that hold a marked place."""
    for path in PAGES:
        page = path.read_text()
        if PLACE.search(page):
            path.write_text(filled(page))


if __name__ == "__main__":
    main()
