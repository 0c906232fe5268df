"""Writes the tables of benchmark reports into the pages that show them.

    python benchmarks/tables.py

A page marks the place of a table with `<!-- table REPORT.json | TITLE -->` before it and `<!-- end -->` behind it; the
report lies in the folder reports, the title is (the beginning of) that of one of its tables. A marked place may name
the ratios to show: `<!-- table REPORT.json | TITLE | 0.1 0.3 -->`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from stsimdiff_cli.evaluation import bench_tables as bench
from stsimdiff_cli.evaluation import tables as evaluation
from stsimdiff_cli.evaluation.run import FORMAT as EVALUATION
from stsimdiff_cli.evaluation.text_table import Grid

HERE = Path(__file__).parent
REPORTS = HERE / "reports"
PAGES = (HERE.parent / "docs" / "bench.md", HERE / "RESULTS.md", HERE.parent / "docs" / "evaluation.md")
PLACE = re.compile(r"(<!-- table (\S+) \| ([^|\n]+?)(?: \| ([0-9. ]+?))? -->\n)(.*?)(<!-- end -->)", re.S)


def filled(page: str) -> str:
    """The page with its tables as the reports have them."""

    def table(match: re.Match[str]) -> str:
        opening, file, title, ratios, _, closing = match.groups()
        report = json.loads((REPORTS / file).read_text())
        grid = next(grid for grid in grids(report) if grid.title.startswith(title))
        if ratios:
            rows = [row for row in grid.rows if row[0] in (*ratios.split(), "1", "-")]
            rows = [row for row in rows if row[0] != "1" or row[1] == "vanilla"]
            grid = Grid(grid.title, grid.header, rows)
        return f"{opening}\n{grid.markdown()}\n\n{closing}"

    return PLACE.sub(table, page)


def grids(report: dict[str, Any]) -> list[Grid]:
    """All tables of a report, of `stsimdiff bench` or of `stsimdiff eval`."""
    return evaluation.tables(report) if report["format"] == EVALUATION else bench.tables(report)


def main() -> None:
    """Fill all pages."""
    for page in PAGES:
        page.write_text(filled(page.read_text()))


if __name__ == "__main__":
    main()
