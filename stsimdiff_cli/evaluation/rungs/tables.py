"""The tables of a report about rungs: methods in rows, rungs in columns, one table a ratio."""

from __future__ import annotations

from typing import Any

from ..text_table import TextTable, difference, interval
from ..variants import BASELINE, REFERENCE

Json = dict[str, Any]
#: What the form of these reports is called.
RUNGS = "stsimdiff.rungs/1"
#: The column of all rungs together.
ALL = "all"
#: What is scored, as titles say it.
_SCORES = {
    "all": "% of questions right",
    "pairs": "% of pairs with both answers right",
    "choices": "% of choices right in every rotation",
}
BEST, LEVEL = "●", "○"
LEGEND = f"{BEST}: the best of a ratio; {LEVEL}: not told apart from it (paired 95 % interval)"
_GROUPS = ("all", "static", "event", "time", "pairs reversed", "pairs without", "choices")
_DETAILS = {
    "long": ("Needles of long clips", "by depth and length", ("depth ", "5 to", "10 to", "20 to")),
    "several": ("Several events", "by kind of question", ("kind order", "kind times")),
}


def rung_tables(report: Json, details: bool = True) -> list[TextTable]:
    """All tables of a report; without details, those of the groups of questions are not repeated for every rung."""
    first = report["columns"][0]
    scores = [part for part in _SCORES if part in report["constant"][first]]
    ratios = sorted({row["ratio"] for row in report["rows"] if row["method"] != BASELINE})
    made = []
    for part in scores:
        made += [controls_table(report, part), *(ratio_table(report, part, ratio) for ratio in ratios)]
    made += [details_table(report, rung) for rung in _DETAILS if rung in report["columns"]]
    return [*made, *(groups_table(report, column) for column in (report["columns"] if details else [first]))]


def ratio_table(report: Json, part: str, ratio: float) -> TextTable:
    """One row a method, one column a rung; all tokens first."""
    rows = [row for row in report["rows"] if row["method"] == BASELINE or row["ratio"] == ratio]
    lines = [
        [_label(report, row), *(_percent(row["rungs"][column], part) for column in report["columns"])] for row in rows
    ]
    title = f"Ratio {ratio:g}: {_SCORES[part]}; {BEST} best, {LEVEL} level"
    return TextTable(title, ["method", *report["columns"]], lines, left=1, strong=_own(report))


def controls_table(report: Json, part: str) -> TextTable:
    """What all tokens give, and what is right without the video as it is."""
    vanilla = next(row for row in report["rows"] if row["method"] == BASELINE)
    shown = {"all tokens": {column: vanilla["rungs"][column]["accuracy"] for column in report["columns"]}}
    shown |= {f"control: {name}": accuracies for name, accuracies in report["controls"].items()}
    lines = [[name, *(f"{each[column][part]['percent']:.1f}" for column in each)] for name, each in shown.items()]
    constants = [f"{report['constant'][column][part]:.1f}" for column in report["columns"]]
    lines.append(["control: best constant answers", *constants])
    return TextTable(f"Controls, all tokens: {_SCORES[part]}", ["", *report["columns"]], lines, left=1)


def groups_table(report: Json, column: str) -> TextTable:
    """What is scored on a rung with intervals, and how far all questions are from those of other methods."""
    rungs = [row["rungs"][column] for row in report["rows"]]
    parts = [part for part in _GROUPS if part in rungs[0]["accuracy"]]
    lines = [
        [
            f"{row['ratio']:g}",
            _label(report, row),
            *(interval(rung["accuracy"][part]) for part in parts),
            *(difference(rung["difference"].get(other, {}).get("all")) for other in report["compared"]),
        ]
        for row, rung in sorted(zip(report["rows"], rungs, strict=True), key=lambda each: _place(each[0]))
    ]
    lines += [
        ["-", f"control: {name}", *(interval(each[column][part]) for part in parts), *["-"] * len(report["compared"])]
        for name, each in report["controls"].items()
    ]
    constants = [f"{report['constant'][column][part]:.1f}" for part in parts]
    lines.append(["-", "control: best constant answers", *constants, *["-"] * len(report["compared"])])
    what = "All rungs" if column == ALL else f"Rung {column}"
    title = f"{what}: % right, and paired differences of all questions"
    header = ["ratio", "method", *parts, *(f"− {report['labels'][other]}" for other in report["compared"])]
    return TextTable(title, header, lines, strong=_own(report))


def details_table(report: Json, rung: str) -> TextTable:
    """What only one rung can be asked about."""
    name, what, wanted = _DETAILS[rung]
    rows = sorted(report["rows"], key=_place)
    parts = [part for part in rows[0]["rungs"][rung]["accuracy"] if part.startswith(wanted)]
    lines = [
        [
            f"{row['ratio']:g}",
            _label(report, row),
            *(interval(row["rungs"][rung]["accuracy"][part]) for part in parts),
        ]
        for row in rows
    ]
    header = ["ratio", "method", *(part.removeprefix("depth ").removeprefix("kind ") for part in parts)]
    return TextTable(f"{name} {what}: % right", header, lines, strong=_own(report))


def _place(row: Json) -> tuple[bool, float]:
    """All tokens first, then by ratio."""
    return row["method"] != BASELINE, row["ratio"]


def _label(report: Json, row: Json) -> str:
    return report["labels"][row["method"]]


def _own(report: Json) -> frozenset[str]:
    """The labels of this project's own methods."""
    return frozenset(label for name, label in report["labels"].items() if name.startswith(REFERENCE))


def _percent(rung: Json, part: str) -> str:
    """Percent right, with a mark for the best and for what its paired interval does not tell apart from it."""
    text, behind = f"{rung['accuracy'][part]['percent']:.1f}", rung["from_best"].get(part)
    if behind is None:
        return text + "  "
    if behind["percent"] == 0:
        return f"{text} {BEST}"
    return f"{text} {LEVEL}" if behind["high"] >= 0 else text + "  "
