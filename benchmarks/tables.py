"""Writes the tables of benchmark reports into the pages that show them.

    python benchmarks/tables.py

A page marks the place of a table with `<!-- table REPORT.json | TITLE -->` before it and `<!-- end -->` after it; the
report lies in the folder reports, the title is (the beginning of) that of one of its tables. A marked place may name
the ratios to show: `<!-- table REPORT.json | TITLE | 0.1 0.3 -->`.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from stsimdiff_cli.evaluation.rungs.tables import RUNGS
from stsimdiff_cli.evaluation.tables import tables
from stsimdiff_cli.evaluation.text_table import TextTable

sys.path.append(str(Path(__file__).parents[1]))
from benchmarks import archive_tables, decide, hours_tables, pace, positions, serving_tables, when_tables
from benchmarks.bits import tables as bits
from benchmarks.real import tables as real

#: Besides the reports of the package itself: modules with `reads(report)` and `tables(report)`.
KINDS = (archive_tables, bits, hours_tables, pace, real, serving_tables, when_tables)
HERE = Path(__file__).parent
REPORTS = HERE / "reports"
DOCS = HERE.parent / "docs"
PAGES = (DOCS / "bench.md", HERE / "RESULTS.md", DOCS / "evaluation.md", DOCS / "serve.md")
PLACE = re.compile(r"(<!-- table (\S+) \| ([^|\n]+?)(?: \| ([0-9. ]+?))? -->\n)(.*?)(<!-- end -->)", re.S)


def filled(page: str) -> str:
    """The page with its tables as the reports have them."""

    def fill(match: re.Match[str]) -> str:
        opening, file, title, ratios, _, closing = match.groups()
        report = json.loads((REPORTS / file).read_text())
        table = next(table for table in tables_of(report) if table.title.startswith(title))
        if ratios:
            rows = [row for row in table.rows if row[0] in (*ratios.split(), "1", "-")]
            rows = [row for row in rows if row[0] != "1" or row[1] == "vanilla"]
            table = TextTable(table.title, table.header, rows)
        return f"{opening}\n{table.markdown()}\n\n{closing}"

    return PLACE.sub(fill, page)


def tables_of(report: dict[str, Any]) -> list[TextTable]:
    """All tables of a report of any kind."""
    kind = next((one for one in KINDS if one.reads(report)), None)
    if kind is not None:
        return kind.tables(report)
    return [
        *([positions.table(report)] if positions.has_positions(report) else []),
        *tables(report),
        *(decide.tables(report) if report["format"] == RUNGS else ()),
    ]


def main() -> None:
    """Fill all pages."""
    for page in PAGES:
        page.write_text(filled(page.read_text()))


if __name__ == "__main__":
    main()
