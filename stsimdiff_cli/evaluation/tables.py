"""A report as tables, for a terminal or as Markdown: of `stsimdiff bench`, or of `stsimdiff eval`.

Methods that also work inside the LLM are written with their form: `fastv@file` and `fastv@inside`, as `--methods` reads
them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby
from typing import Any

from ..methods.spec import shown
from ..models.loading.checkpoint import split_options
from ..synthetic.questions import GROUPS
from . import paper_results
from .rungs.tables import RUNGS, rung_tables
from .text_table import TextTable, difference, interval, span
from .variants import BASELINE, INSIDE, REFERENCE

#: What the two commands call the form of their reports.
BENCH, EVAL = "stsimdiff.bench/1", "stsimdiff.eval/1"
#: Whose rows are shown next to those of a model that the paper does not have.
EXAMPLE = ("LLaVA-Video-7B", 64)
_MANY = 5  # methods from which on a glance helps
_COLUMNS = ("all", *GROUPS)  # groups of questions of a bench

Json = dict[str, Any]


def tables(report: Json) -> list[TextTable]:
    """All tables of a report."""
    if report["format"] == BENCH:
        return bench_tables(report)
    if report["format"] == RUNGS:
        return rung_tables(report)
    made = (
        scores_table(report), compared_table(report), inside_table(report), groups_table(report), paper_table(report),
    )  # fmt: skip
    return [table for table in made if table]


def bench_tables(report: Json) -> list[TextTable]:
    """Where answers are known: accuracy of methods, ablation and sweeps; and what needs no known answers."""
    labelled = report["blind"] is not None
    sections = [("method", {shown(name): name for name in report["methods"]}, "Methods")]
    if len(report["methods"]) <= 2 and (report["ablation"] or report["sweep"]):
        sections = []  # nothing that the other tables do not have
    if report["ablation"]:
        sections.append(("components", report["ablation"], "Ablation"))
    sections += [(parameter, values, f"Sweep of {parameter}") for parameter, values in report["sweep"].items()]
    made = []
    if labelled and len(report["methods"]) > _MANY:
        made.append(overview_table(report))
    for what, names, title in sections:
        if labelled:
            made.append(accuracy_table(report, f"{title}: accuracy, % of questions", what, names))
        if not labelled or what == "method":
            made.append(figures_table(report, f"{title}: without right answers, %; seconds a clip", what, names))
    cost = inside_table(report)
    return [*made, cost] if cost else made


def overview_table(report: Json) -> TextTable:
    """One row per method, one column per ratio; vanilla, which has no ratio, in all of them.

    A mark shows that the whole paired interval lies above or below the reference.
    """
    names = report["methods"]
    by_cell = {(row["method"], row["ratio"]): row for row in report["rows"]}
    ratios = sorted({ratio for method, ratio in by_cell if method != BASELINE and method in names})
    lines = []
    for name in names:
        rows = [by_cell.get((name, 1.0 if name == BASELINE else ratio)) for ratio in ratios]
        lines.append(
            [shown(name), *("" if row is None else interval(row["accuracy"]["all"]) + _mark(row) for row in rows)]
        )
    title = f"Methods at a glance: % of all questions; ▲ ▼: paired 95 % interval above or below {shown(REFERENCE)}"
    return TextTable(title, ["method", *(f"ratio {ratio:g}" for ratio in ratios)], lines, left=1)


def _mark(row: Json) -> str:
    """Whether the paired interval of the difference leaves 0 out."""
    estimate = row["difference"]
    if estimate is None or estimate["low"] <= 0 <= estimate["high"]:
        return ""
    return " ▲" if estimate["low"] > 0 else " ▼"


def accuracy_table(report: Json, title: str, what: str, names: dict[str, str]) -> TextTable:
    """Accuracy by group with intervals, by ratio; `names` maps the labels of rows to variants.

    Among the methods, the questions alone and the best constant answers come last.
    """
    lines = []
    for label, row in _labelled_rows(report, names):
        percent = row["of_vanilla"]["percent"]  # null if all tokens give no right answer
        share = "-" if row["method"] == BASELINE or percent is None else f"{percent:.1f}"
        lines.append([*_name(row, label), *_intervals(row["accuracy"], _COLUMNS), share, difference(row["difference"])])
    if what == "method":
        constant = [f"{report['constant'][group]:.1f}" for group in _COLUMNS]
        lines.append(["-", "no video", "0", *_intervals(report["blind"], _COLUMNS), "-", "-"])
        lines.append(["-", "best constant answers", "-", *constant, "-", "-"])
    return TextTable(title, ["ratio", what, "kept", *_COLUMNS, "of vanilla", f"− {shown(REFERENCE)}"], lines)


def figures_table(report: Json, title: str, what: str, names: dict[str, str]) -> TextTable:
    """What needs no known answers: coverage, event recall, agreement with all tokens, and seconds (medians)."""
    header = ["ratio", what, "kept", "coverage", "event recall", "same answer", "select s", "answer s"]
    lines = []
    for label, row in _labelled_rows(report, names):
        seconds = [f"{row['seconds'][step]:.3f}" for step in ("select", "answer")]
        lines.append([*_name(row, label), *_intervals(row, ("coverage", "event_recall", "agreement")), *seconds])
    return TextTable(title, header, lines)


def _labelled_rows(report: Json, names: dict[str, str]) -> list[tuple[str, Json]]:
    """The rows of some variants under their labels, by ratio."""
    by_cell = {(row["method"], row["ratio"]): row for row in report["rows"]}
    ratios = sorted({ratio for _, ratio in by_cell})
    cells = [(label, (name, ratio)) for ratio in ratios for label, name in names.items()]
    return [(label, by_cell[cell]) for label, cell in cells if cell in by_cell]


def scores_table(report: Json) -> TextTable:
    """The paper's columns for every method and ratio, with intervals."""
    columns = report["columns"]
    lines = [[*_name(row), *_intervals(row["accuracy"], columns)] for row in report["rows"]]
    return TextTable(
        f"{report['title']}: % of questions answered rightly", ["ratio", "method", "kept", *columns], lines
    )


def compared_table(report: Json) -> TextTable | None:
    """Every method against all tokens and against the reference, paired; None if nothing is labelled."""
    lines = []
    for row in report["rows"]:
        if row["of_vanilla"]:
            compared = [difference(row["difference"].get(other)) for other in (BASELINE, REFERENCE)]
            lines.append([*_name(row)[:2], interval(row["of_vanilla"]), *compared])
    header = ["ratio", "method", f"% of {BASELINE}", f"− {BASELINE}", f"− {shown(REFERENCE)}"]
    title = f"{report['title']}: beside all tokens and beside {shown(REFERENCE)}"
    return TextTable(title, header, lines) if lines else None


def inside_table(report: Json) -> TextTable | None:
    """What the forms inside the LLM cost, and what the forms for files reach with as many tokens and as much compute.

    Compute is the mean number of tokens alive over all layers, those before the pruning included. None if the report
    has no such row.
    """
    by_cell = {(row["method"], row["ratio"]): row for row in report["rows"]}
    reference = shown(REFERENCE)
    lines = []
    for row in report["rows"]:
        method, _, form = row["method"].partition("@")
        if form != INSIDE:
            continue
        compute, live = row.get("compute"), row.get("live")
        cost = ["-", "-"] if compute is None else [_layers(live), f"{100 * compute:.1f}"]
        same = {each["method"]: each for each in row.get("same_compute", ())}
        cells = [_all(by_cell.get((method, row["ratio"]))), *_same(same.get(method)), *_same(same.get(REFERENCE))]
        lines.append([*_name(row)[:2], *cost, _all(row), *cells])
    header = [
        *("ratio", "method", "tokens alive after each layer", "mean, % of all", "all"),
        *("@file, same count", "@file, same compute", "− that"),
        *(f"{reference}, same compute", "− that"),
    ]
    title = "Inside the LLM: cost, and forms for files at equal count and at equal compute"
    return TextTable(title, header, lines, left=3) if lines else None


def _layers(live: list[float]) -> str:
    """Tokens alive after each layer, equal neighbours once: `1152, 346 x 3`."""
    runs = [(count, len(list(same))) for count, same in groupby(f"{each:.0f}" for each in live)]
    return ", ".join(count if times == 1 else f"{count} x {times}" for count, times in runs)


def _all(row: Json | None) -> str:
    """The accuracy over all questions of a row; in a bench `all`, in an evaluation the last column."""
    if row is None or row["accuracy"] is None:
        return "-"
    return interval(row["accuracy"].get("all") or row["accuracy"]["Overall"])


def _same(found: Json | None) -> list[str]:
    """Accuracy at the same compute, and the difference from it."""
    return ["-", "-"] if found is None else [interval(found["accuracy"]), difference(found["difference"])]


def groups_table(report: Json) -> TextTable | None:
    """One line for each group of questions, one column for each method and ratio; None if nothing is labelled."""
    rows = [row for row in report["rows"] if row["groups"]]
    if not rows:
        return None
    header = ["group", "", "questions", *(f"{shown(row['method'])} {row['ratio']:g}" for row in rows)]
    lines = [
        [group, value, str(accuracy["asked"]), *(interval(row["groups"][group][value]) for row in rows)]
        for group, values in rows[0]["groups"].items()
        for value, accuracy in values.items()
    ]
    return TextTable(f"{report['title']}: by group", header, lines)


def paper_table(report: Json) -> TextTable:
    """The paper's rows next to ours, line by line: published, measured, and the difference.

    A model, or a number of frames, that the paper does not have gets no difference: the paper's rows are only shown.
    """
    model, frames = report["paper_model"], report["frames"]
    comparable = bool(model and paper_results.rows(model, frames))
    if not comparable:
        model, frames = EXAMPLE
    theirs = {(row.method, float(row.ratio)): row.scores for row in paper_results.rows(model, frames)}
    lines = []
    for row in report["rows"]:
        method = re.split("[@:]", row["method"])[0]  # in every form and with any parameters: the name says which
        known = theirs.get((method, row["ratio"]), {}).get(report["benchmark"], {})
        mine = {label: (row["accuracy"] or {}).get(label, {}).get("percent") for label in report["columns"]}
        figures = {"measured": mine, "published": known}
        if comparable:
            figures["difference"] = {key: mine[key] - known[key] for key in known if mine.get(key) is not None}
        for what, values in figures.items():
            if what == "measured" or values:
                sign = "+" if what == "difference" else ""
                cells = [_number(values.get(label), sign) for label in report["columns"]]
                lines.append([*_name(row)[:2], what, *cells])
    what = "" if comparable else ", another model or number of frames: no differences"
    set_by_user = split_options(report["model"])[1]
    how = (
        f"; measured with {', '.join(f'{name}={value}' for name, value in set_by_user.items())}" if set_by_user else ""
    )
    title = f"{report['title']}: beside the paper's {model} with {frames} frames{what}{how}"
    return TextTable(title, ["ratio", "method", "figures", *report["columns"]], lines, left=3)


def _name(row: Json, label: str | None = None) -> list[str]:
    """The first cells of a row: ratio, method (or the row's label) and tokens kept."""
    return [f"{row['ratio']:g}", label or shown(row["method"]), span(row["kept"]) if row["kept"] else "-"]


def _intervals(estimates: Json | None, names: Iterable[str]) -> list[str]:
    """Some of the estimates, with their intervals; none of them if no answer is known."""
    return [interval(estimates[name]) if estimates else "-" for name in names]


def _number(value: float | None, sign: str) -> str:
    return "-" if value is None else f"{value:{sign}.1f}".replace("-", "−")
