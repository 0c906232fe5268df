"""Where a method is ahead of others and where behind, in a report about rungs, corrected for the number of comparisons.

    python benchmarks/decide.py benchmarks/reports/rungs.json --method st-simdiff+

For every other method, ratio and rung (and all rungs together) the differences in right answers are paired by seed. An
exact sign-flip test says how likely they are if the two methods are equal. Holm's procedure keeps the chance that any
of the verdicts is false below 5 %.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stsimdiff_cli.evaluation.text_table import TextTable

LEVEL = 0.05
METHOD = "st-simdiff+"
ALL = "all"
Json = dict[str, Any]


class Verdict(NamedTuple):
    """How a method does against another at a ratio on a rung: difference in percent, p, and +1, 0 or -1 after Holm."""

    other: str
    ratio: float
    rung: str
    percent: float
    p: float
    sign: int


def right_answers(report: Json) -> dict[tuple[str, str], dict[str, np.ndarray]]:
    """By (method, ratio) and rung: right and asked of every seed, (seeds, 2). Forms inside the LLM are left out."""
    seeds = {seed: i for i, seed in enumerate(dict.fromkeys(_seed(clip["name"]) for clip in report["sittings"]))}
    found: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    for clip in report["sittings"]:
        rung, asked = clip["name"].split()[0], len(clip["questions"])
        for method, ratio, wrong in clip["other_answers"]:
            counts = found.setdefault((method, ratio), {})
            for column in (rung, ALL):
                counts.setdefault(column, np.zeros((len(seeds), 2)))[seeds[_seed(clip["name"])]] += (
                    asked - len(wrong),
                    asked,
                )
    return {cell: counts for cell, counts in found.items() if not cell[0].endswith("@inside")}


def _seed(name: str) -> str:
    return name.split()[1].rstrip(":")


def verdicts(report: Json, method: str = METHOD) -> list[Verdict]:
    """Every comparison of a method with the others at the same ratio."""
    counts = right_answers(report)
    tests = []
    for (other, ratio), theirs in counts.items():
        if other == method or (method, ratio) not in counts:
            continue
        for rung, (mine, them) in {r: (counts[method, ratio][r], theirs[r]) for r in theirs}.items():
            difference = mine[:, 0] - them[:, 0]
            tests.append(
                (other, float(ratio), rung, 100 * difference.sum() / mine[:, 1].sum(), sign_flip_p(difference))
            )
    signs = holm([p for *_, p in tests])
    return [Verdict(*test, int(np.sign(test[3])) * sign) for test, sign in zip(tests, signs, strict=True)]


def sign_flip_p(difference: np.ndarray) -> float:
    """Two-sided p of the sum of paired whole-number differences (seeds,), by all flips of their signs.

    The distribution of the sum is exact: each difference d moves it by d or by -d, with equal chance.
    """
    steps = np.abs(difference[difference != 0]).astype(int)
    chance = np.ones(1)  # of the sums -total, -total + 2, ..., total
    for step in steps:
        chance = (np.pad(chance, (0, step)) + np.pad(chance, (step, 0))) / 2
    sums = 2 * np.arange(len(chance)) - steps.sum()
    return float(chance[np.abs(sums) >= abs(difference.sum())].sum())


def holm(p: Iterable[float], level: float = LEVEL) -> list[int]:
    """Which of several hypotheses are rejected (1) with at most `level` chance of a single false one (Holm, 1979)."""
    values = np.array(list(p))
    order = np.argsort(values, kind="stable")
    passed = values[order] <= level / np.arange(len(values), 0, -1)
    rejected = np.zeros(len(values), int)
    rejected[order[: len(values) if passed.all() else int(np.argmin(passed))]] = 1
    return rejected.tolist()


def tables(report: Json, method: str = METHOD) -> list[TextTable]:
    """One table: for every other method and ratio the difference over all rungs, and the rungs ahead and behind."""
    found = verdicts(report, method)
    ratios = sorted({verdict.ratio for verdict in found})
    lines = []
    for other in dict.fromkeys(verdict.other for verdict in found):
        line = [report["labels"][other]]
        for ratio in ratios:
            some = [v for v in found if (v.other, v.ratio) == (other, ratio)]
            whole = next((v for v in some if v.rung == ALL), None)
            ahead, behind = (sum(v.sign == sign for v in some if v.rung != ALL) for sign in (1, -1))
            mark = "" if whole is None else {1: " ▲", 0: "", -1: " ▼"}[whole.sign]
            line.append("" if whole is None else f"{whole.percent:+.1f}{mark}, {ahead} / {behind}")
        lines.append(line)
    title = (
        f"{method} against others: difference in % of all questions (▲ ▼: not by chance), rungs ahead / behind "
        f"({len(found)} comparisons, Holm at {100 * LEVEL:g} %)"
    )
    return [TextTable(title, ["method", *(f"ratio {ratio:g}" for ratio in ratios)], lines, left=1)]


def main() -> None:
    """Print the table, and every comparison that is not by chance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("--method", default=METHOD)
    options = parser.parse_args()
    report = json.loads(options.report.read_text())
    print(tables(report, options.method)[0].markdown())
    for verdict in verdicts(report, options.method):
        if verdict.sign and verdict.rung != ALL:
            print(
                f"{verdict.ratio:g} {verdict.rung}: {verdict.percent:+.1f} against {verdict.other}, p {verdict.p:.2g}"
            )


if __name__ == "__main__":
    main()
