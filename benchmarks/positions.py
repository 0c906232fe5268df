"""What it costs to number kept tokens otherwise than the LLM learned: the table of a bench with @slots and @packed."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from stsimdiff_cli.evaluation.bootstrap import Bootstrap, Numbers
from stsimdiff_cli.evaluation.text_table import TextTable, difference
from stsimdiff_cli.models.question import PACKED, SLOTS

Json = dict[str, Any]
TITLE = "Positions"
#: Clips of one seed on all rungs show the same things, so they are drawn together.
CLIP = re.compile(r"(?P<rung>\w+) (?P<seed>\d+): ")
#: What stands after a method of which some answers were given with other positions.
FORMS = (SLOTS, PACKED)


def has_positions(report: Json) -> bool:
    """Whether a report of the ladder holds other numberings of positions."""
    return "rungs" in report and any(method.endswith(f"@{form}") for method, _ in report["cells"] for form in FORMS)


def table(report: Json) -> TextTable:
    """Percent right at the original positions by ratio and method, and paired differences from that, on all rungs.

    Then the mean over the rows of each rung. In brackets are 95 % intervals over seeds.
    """
    clips = [match for sitting in report["sittings"] if (match := CLIP.match(sitting["name"]))]
    asked = np.array([len(sitting["questions"]) for sitting in report["sittings"]], dtype=float)
    right = {
        (method, ratio): asked - [len(dict(_by_cell(sitting))[method, ratio]) for sitting in report["sittings"]]
        for method, ratio in map(tuple, report["cells"])
    }
    seeds = sorted({match["seed"] for match in clips})
    of_seed = np.array([[match["seed"] == seed for match in clips] for seed in seeds], dtype=float)  # (seeds, clips)
    bootstrap = Bootstrap.over(len(seeds), report["seed"])

    def row(cells: list[tuple[str, str]], rung: str | None) -> list[str]:
        """Of cells together, on one rung or on all."""
        here = np.array([rung in (None, match["rung"]) for match in clips], dtype=float)

        def percent(counts: Numbers) -> Json:
            return vars(bootstrap.percent(of_seed @ (here * counts), of_seed @ (here * asked * len(cells))))

        original = np.sum([right[cell] for cell in cells], axis=0)
        others = [np.sum([right[f"{name}@{form}", ratio] for name, ratio in cells], axis=0) for form in FORMS]
        return [f"{percent(original)['percent']:.1f}", *(difference(percent(other - original)) for other in others)]

    compared = [cell for cell in right if all((f"{cell[0]}@{form}", cell[1]) in right for form in FORMS)]
    lines = [[ratio, name, *row([(name, ratio)], None)] for name, ratio in sorted(compared, key=lambda c: float(c[1]))]
    ratios = sorted({ratio for _, ratio in compared}, key=float)
    for rung in dict.fromkeys(match["rung"] for match in clips):
        lines += [[ratio, f"mean, rung {rung}", *row([c for c in compared if c[1] == ratio], rung)] for ratio in ratios]
    return TextTable(
        f"{TITLE}: % right, and paired differences from the original positions",
        ["ratio", "method", "original", *(f"@{form} − original" for form in FORMS)],
        lines,
    )


def _by_cell(sitting: Json) -> list[tuple[tuple[str, str], Json]]:
    return [((method, ratio), wrong) for method, ratio, wrong in sitting["other_answers"]]
