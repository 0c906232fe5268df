"""A report as tables: rows of text, for a terminal or as Markdown."""

from __future__ import annotations

from typing import Any

from ..synthetic.questions import GROUPS
from .bench_report import ALL
from .plan import BASELINE, REFERENCE
from .text_table import Grid, difference, interval, span

_MANY = 5  # methods from which on a glance helps
#: How groups of questions are called in headers.
_GROUPS = {ALL: "all", **{name: name for name in GROUPS}}


def tables(report: dict[str, Any]) -> list[Grid]:
    """All tables of a report. Where answers are known: accuracy of methods, ablation and sweeps; and other figures."""
    labelled = report["blind"] is not None
    sections = [("method", {name: name for name in report["methods"]}, "Methods")]
    if len(report["methods"]) <= 2 and (report["ablation"] or report["sweep"]):
        sections = []  # nothing but what the other tables hold too
    if report["ablation"]:
        sections.append(("components", report["ablation"], "Ablation"))
    sections += [(parameter, values, f"Sweep of {parameter}") for parameter, values in report["sweep"].items()]
    grids = []
    if labelled and len(report["methods"]) > _MANY:
        grids.append(overview_table(report))
    for what, names, title in sections:
        if labelled:
            grids.append(accuracy_table(report, f"{title}: accuracy, % of questions", what, names))
        if not labelled or what == "method":
            grids.append(figures_table(report, f"{title}: without right answers, %; seconds a clip", what, names))
    return grids


def overview_table(report: dict[str, Any]) -> Grid:
    """One row a method, one column a ratio; vanilla, which has no ratio, in all of them.

    Marked is what lies above or below the reference with the whole paired interval.
    """
    names = {name: name for name in report["methods"]}
    ratios = sorted({row["ratio"] for _, row in _rows(report, names) if row["method"] != BASELINE})
    by_cell = {(row["method"], row["ratio"]): row for row in report["rows"]}
    rows = []
    for name in names:
        found = [by_cell.get((name, 1.0 if name == BASELINE else ratio)) for ratio in ratios]
        rows.append([name, *("" if row is None else interval(row["accuracy"][ALL]) + _mark(row) for row in found)])
    title = f"Methods at a glance: % of all questions; ▲ ▼: paired 95 % interval above or below {REFERENCE}"
    return Grid(title, ["method", *(f"ratio {ratio:g}" for ratio in ratios)], rows, left=1)


def _mark(row: dict[str, Any]) -> str:
    """Whether the paired interval of the difference leaves 0 out."""
    found = row["difference"]
    if found is None or found["low"] <= 0 <= found["high"]:
        return ""
    return " ▲" if found["low"] > 0 else " ▼"


def accuracy_table(report: dict[str, Any], title: str, what: str, names: dict[str, str]) -> Grid:
    """Accuracy by group with intervals, by ratio; `names` maps what the rows are called to contenders.

    Among the methods, the questions alone and the best constant answers come last.
    """
    header = ["ratio", what, "kept", *_GROUPS.values(), "of vanilla", f"− {REFERENCE}"]
    rows = []
    for label, row in _rows(report, names):
        cells = [interval(row["accuracy"][group]) for group in _GROUPS]
        rows.append([f"{row['ratio']:g}", label, span(row["kept"]), *cells, *_compared(row)])
    if what == "method":
        blind, constant = report["blind"], report["constant"]
        rows.append(["-", "no video", "0", *(interval(blind[group]) for group in _GROUPS), "-", "-"])
        rows.append(["-", "best constant answers", "-", *(f"{constant[group]:.1f}" for group in _GROUPS), "-", "-"])
    return Grid(title, header, rows)


def figures_table(report: dict[str, Any], title: str, what: str, names: dict[str, str]) -> Grid:
    """What needs no right answers: coverage, event recall, agreement with all tokens, and seconds (medians)."""
    header = ["ratio", what, "kept", "coverage", "event recall", "same answer", "select s", "answer s"]
    rows = []
    for label, row in _rows(report, names):
        figures = [interval(row[name]) for name in ("coverage", "event_recall", "agreement")]
        seconds = [f"{row['seconds'][step]:.3f}" for step in ("select", "answer")]
        rows.append([f"{row['ratio']:g}", label, span(row["kept"]), *figures, *seconds])
    return Grid(title, header, rows)


def _rows(report: dict[str, Any], names: dict[str, str]) -> list[tuple[str, dict[str, Any]]]:
    """The rows of some contenders under their labels, by ratio."""
    by_cell = {(row["method"], row["ratio"]): row for row in report["rows"]}
    ratios = sorted({ratio for _, ratio in by_cell})
    cells = [(label, (name, ratio)) for ratio in ratios for label, name in names.items()]
    return [(label, by_cell[cell]) for label, cell in cells if cell in by_cell]


def _compared(row: dict[str, Any]) -> list[str]:
    """The percentage of vanilla, and the difference from the reference with its paired interval."""
    percent = row["of_vanilla"]["percent"]  # null if all tokens give no right answer
    share = "-" if row["method"] == BASELINE or percent is None else f"{percent:.1f}"
    return [share, difference(row["difference"])]
