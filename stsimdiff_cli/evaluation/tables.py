"""A report as tables: scores, what stands beside them in the paper, and scores by group."""

from __future__ import annotations

from typing import Any

from . import paper_results
from .plan import BASELINE, REFERENCE
from .text_table import Grid, difference, interval, span

#: Whose rows stand beside those of a model that the paper does not have.
EXAMPLE = ("LLaVA-Video-7B", 64)


def tables(report: dict[str, Any]) -> list[Grid]:
    """All tables of a report."""
    grids = (scores_table(report), compared_table(report), groups_table(report), paper_table(report))
    return [grid for grid in grids if grid]


def scores_table(report: dict[str, Any]) -> Grid:
    """The paper's columns for every method and ratio, with intervals."""
    header = ["ratio", "method", "kept", *report["columns"]]
    rows = []
    for row in report["rows"]:
        cells = [interval(row["accuracy"][label]) if row["accuracy"] else "-" for label in report["columns"]]
        rows.append([*_name(row), span(row["kept"]) if row["kept"] else "-", *cells])
    return Grid(f"{report['title']}: % of questions answered rightly", header, rows)


def compared_table(report: dict[str, Any]) -> Grid | None:
    """Every method beside all tokens and beside the reference, with paired intervals; None if nothing is labelled."""
    rows = []
    for row in report["rows"]:
        if row["of_vanilla"]:
            compared = [difference(row["difference"].get(other)) for other in (BASELINE, REFERENCE)]
            rows.append([*_name(row), interval(row["of_vanilla"]), *compared])
    header = ["ratio", "method", f"% of {BASELINE}", f"− {BASELINE}", f"− {REFERENCE}"]
    return Grid(f"{report['title']}: beside all tokens and beside {REFERENCE}", header, rows) if rows else None


def groups_table(report: dict[str, Any]) -> Grid | None:
    """One line for each group of questions, one column for each method and ratio; None if nothing is labelled."""
    rows = [row for row in report["rows"] if row["groups"]]
    if not rows:
        return None
    header = ["group", "", "questions", *(f"{row['method']} {row['ratio']:g}" for row in rows)]
    lines = []
    for group, values in rows[0]["groups"].items():
        for value, found in values.items():
            scores = [interval(row["groups"][group][value]) for row in rows]
            lines.append([group, value, str(found["asked"]), *scores])
    return Grid(f"{report['title']}: by group", header, lines)


def paper_table(report: dict[str, Any]) -> Grid:
    """The paper's rows beside ours, line by line: published, measured, and what lies between.

    A model, or a number of frames, that the paper does not have gets no difference: its rows stand there to look at.
    """
    model, frames = report["paper_model"], report["frames"]
    comparable = bool(model and paper_results.rows(model, frames))
    if not comparable:
        model, frames = EXAMPLE
    theirs = {(row.method, float(row.ratio)): row.scores for row in paper_results.rows(model, frames)}
    lines = []
    for row in report["rows"]:
        method, _, _ = row["method"].partition("@")  # the paper's FastV prunes inside the LLM
        known = theirs.get((method, row["ratio"]), {}).get(report["benchmark"], {})
        mine = {label: (row["accuracy"] or {}).get(label, {}).get("percent") for label in report["columns"]}
        kinds = {"measured": mine, "published": known}
        if comparable:
            kinds["difference"] = {label: mine[label] - known[label] for label in known if mine.get(label) is not None}
        for kind, values in kinds.items():
            if kind == "measured" or values:
                sign = "+" if kind == "difference" else ""
                cells = [_number(values.get(label), sign) for label in report["columns"]]
                lines.append([*_name(row), kind, *cells])
    what = "" if comparable else ", another model or number of frames: no differences"
    return Grid(
        f"{report['title']}: beside the paper's {model} with {frames} frames{what}",
        ["ratio", "method", "figures", *report["columns"]],
        lines,
        left=3,
    )


def _name(row: dict[str, Any]) -> list[str]:
    """The first two cells of a row."""
    return [f"{row['ratio']:g}", row["method"]]


def _number(value: float | None, sign: str) -> str:
    return "-" if value is None else f"{value:{sign}.1f}".replace("-", "−")
