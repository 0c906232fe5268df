"""A report about fewer bits as tables."""

from __future__ import annotations

from typing import Any

import numpy as np

from stsimdiff_cli.evaluation.bootstrap import Bootstrap
from stsimdiff_cli.evaluation.text_table import TextTable, difference, interval

from .answers import FORMAT, TRIED
from .forms import OFFERED

Json = dict[str, Any]


def reads(report: Json) -> bool:
    """Whether a report is one about fewer bits."""
    return report["format"] == FORMAT


def tables(report: Json) -> list[TextTable]:
    """All tables of a report."""
    return [
        forms_table(report),
        budget_table(report),
        rungs_table(report),
        families_table(report),
        files_table(report),
    ]


def rows_of(report: Json, name: str) -> list[Json]:
    """The rows of a set of clips."""
    return [row for row in report["rows"] if row["set"] == name]


def percent(row: Json) -> float:
    """Right answers of a row."""
    return 100 * sum(row["right"]) / sum(row["asked"])


def kilobytes_a_minute(row: Json) -> float:
    """Mean bytes of a file, header included, for a minute of video."""
    return sum(row["bytes"]) / sum(row["seconds"]) * 60 / 1000


def forms_table(report: Json) -> TextTable:
    """Every form at one ratio: right answers, and those that are not the ones of float32."""
    rows = [row for row in rows_of(report, "rendered") if row["ratio"] == float(TRIED[0])]
    bootstrap = Bootstrap.over(len(rows[0]["asked"]), report["seed"])
    asked = np.array(rows[0]["asked"], float)
    first = np.array(rows[0]["right"], float)
    lines = []
    for row in rows:
        right = np.array(row["right"], float)
        from_first = difference(vars(bootstrap.percent(right - first, asked))) if row is not rows[0] else "-"
        lines.append(
            [
                row["form"],
                "yes" if row["offered"] else "no",
                interval(vars(bootstrap.percent(right, asked))),
                from_first,
                f"{sum(row['changed'])} of {sum(row['asked'])}",
            ]
        )
    header = ["form", "offered", "right, %", "− float32", "answers changed"]
    return TextTable(f"Fewer bits at ratio {TRIED[0]}: {len(rows[0]['asked'])} rendered clips", header, lines)


def budget_table(report: Json) -> TextTable:
    """Ratio x form by bytes a minute: the best of each row of sizes is bold."""
    rows = sorted((row for row in rows_of(report, "rendered") if row["offered"]), key=kilobytes_a_minute)
    lines, best = [], -1.0
    for row in rows:
        right = percent(row)
        better, best = right > best, max(best, right)
        lines.append(
            [
                f"{row['ratio']:g}",
                row["form"],
                f"{kilobytes_a_minute(row):.0f}",
                f"{right:.1f}",
                f"{sum(row['changed'])}",
                "yes" if better else "",
            ]
        )
    header = ["ratio", "form", "kB a minute", "right, %", "changed", "better than all that are smaller"]
    return TextTable("Ratio and form by bytes for a minute of video", header, lines)


def rungs_table(report: Json) -> TextTable:
    """Answers changed on each rung of the ladder."""
    names = dict.fromkeys(row["set"] for row in report["rows"] if row["set"] != "rendered")
    forms = OFFERED[1:]
    lines = []
    for name in names:
        by_form = {row["form"]: row for row in rows_of(report, name)}
        first = by_form[OFFERED[0]]
        changed = [str(sum(by_form[form]["changed"])) for form in forms]
        lines.append([name, str(sum(first["asked"])), f"{percent(first):.1f}", *changed])
    header = ["rung", "questions", "right in float32, %", *forms]
    return TextTable(f"Answers changed by rung, ratio {TRIED[0]}", header, lines, left=1)


def families_table(report: Json) -> TextTable:
    """The largest difference of logits of every family; with large channels after the stroke."""
    families = dict.fromkeys(row["family"] for row in report["families"])
    values = {(row["family"], row["form"], row["outliers"]): row["logits"] for row in report["families"]}
    forms = [form for form in dict.fromkeys(row["form"] for row in report["families"]) if form != OFFERED[0]]
    lines = [
        [form, *(f"{values[name, form, False]:.2g} / {values[name, form, True]:.2g}" for name in families)]
        for form in forms
    ]
    title = "Largest difference of logits, in their standard deviations: random checkpoints / with large channels"
    return TextTable(title, ["form", *families], lines, left=1)


def files_table(report: Json) -> TextTable:
    """Bytes and seconds of a file of real width."""
    lines = [
        [row["form"], f"{row['bytes'] / 1e6:.1f}", f"{row['write']:.2f}", f"{row['read']:.2f}"]
        for row in report["files"]
    ]
    header = ["form", "MB", "write, CPU s", "read, CPU s"]
    return TextTable("A file of 64 frames of LLaVA-Video-7B at ratio 0.3", header, lines, left=1)
