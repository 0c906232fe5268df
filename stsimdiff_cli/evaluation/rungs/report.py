"""The report about rungs of the ladder: every figure of every variant, rung by rung and over all rungs.

Clips made from one seed are twins, on all rungs, so that a seed is what the bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property

from ...methods.spec import shown
from ..plan import WHOLE, Cell, Plan
from ..report_parts import Json, constant, interval_of, origin, sittings
from ..samples_log import SamplesLog
from ..scores import Scores
from ..tasks.base import Part, Sample, by_video
from ..tasks.ladder import LadderClips
from ..variants import BASELINE, INSIDE, REFERENCE
from .tables import ALL, RUNGS

#: The methods that others are compared with, at the same ratio; vanilla at its only one. evs is the strongest rival
#: of the reference on clips whose camera stands still.
COMPARED = (BASELINE, REFERENCE, "evs")
#: Parts in which methods are compared; the others have accuracies alone.
MAIN = ("all", "static", "event", "time", "pairs", "choices")


def rungs_report(request: Json, task: LadderClips, samples: list[Sample], plan: Plan, log: SamplesLog) -> Json:
    """Estimates for every cell and control on every rung, and the answers that differ from what was expected."""
    scores = Scores(task, samples, plan, log, {}, request["seed"], lone=True)
    figures = Figures(task, scores)
    return {
        **request,
        "format": RUNGS,
        **origin(request),
        "clips": len(by_video(samples)),
        "seeds": task.count,
        "asked": len(samples),
        "interval": interval_of("seeds"),
        "columns": list(figures.columns),
        "labels": labels(plan),
        "compared": [name for name in COMPARED if name in plan.variants],
        "rows": [figures.row(cell) for cell in plan.cells()],
        "controls": {name: figures.accuracies((name, ratio)) for name, ratio in task.controls},
        "constant": {column: constant(scores.bundles, parts) for column, parts in figures.columns.items()},
        "sittings": sittings(scores),
    }


def labels(plan: Plan) -> dict[str, str]:
    """How tables and pictures name each variant: as users write it, or as a row of the ablation or point of a sweep."""
    points = {
        name: f"{parameter}={value}" for parameter, values in plan.sweep.items() for value, name in values.items()
    }
    components = {name: label for label, name in plan.ablation.items()}
    named = {name: shown(name) for name in plan.methods}
    return {name: (points | components | named)[name] for name in plan.variants}


@dataclass(frozen=True)
class Figures:
    """Looks up the figures of a cell by column: all rungs together (if there are several), and each rung."""

    task: LadderClips
    scores: Scores

    @cached_property
    def columns(self) -> dict[str, Mapping[str, Part]]:
        """What is counted by column and label; nothing of which there is none."""
        several = {ALL: self.task.parts()} if len(self.task.rungs) > 1 else {}
        wanted = {**several, **{rung: self.task.parts(rung) for rung in self.task.rungs}}
        return {
            column: {label: part for label, part in parts.items() if self.scores.counts(WHOLE, part)[1].any()}
            for column, parts in wanted.items()
        }

    @cached_property
    def cells(self) -> list[Cell]:
        """Every variant at every ratio."""
        return self.scores.plan.cells()

    def row(self, cell: Cell) -> Json:
        """Everything about a variant at a ratio."""
        fields = asdict(self.scores.plain_row(cell))
        left_out = ("without_letter", "groups", "accuracy", "of_vanilla", "difference", "same_compute")
        row = {name: value for name, value in fields.items() if name not in left_out}
        accuracies = self.accuracies(cell)
        return row | {
            "rungs": {
                column: {
                    "accuracy": accuracies[column],
                    "difference": {
                        other[0]: self.differences(cell, other, parts) for other in self.others(cell) if other != cell
                    },
                    "from_best": {
                        label: asdict(self.scores.difference(cell, self.best(cell[1], column, label), parts[label]))
                        for label in MAIN
                        if label in parts and self.takes_part(cell)
                    },
                }
                for column, parts in self.columns.items()
            }
        }

    def accuracies(self, cell: Cell) -> Json:
        """Percent right of everything that is counted."""
        return {
            column: {label: asdict(self.scores.accuracy(cell, part)) for label, part in parts.items()}
            for column, parts in self.columns.items()
        }

    def differences(self, cell: Cell, other: Cell, parts: Mapping[str, Part]) -> Json:
        """Paired differences from another cell."""
        return {
            label: asdict(self.scores.difference(cell, other, part)) for label, part in parts.items() if label in MAIN
        }

    def others(self, cell: Cell) -> list[Cell]:
        """The cells that a cell is compared with: those of COMPARED at its ratio, and all tokens."""
        wanted = [WHOLE, *((name, cell[1]) for name in COMPARED)]
        return [other for other in wanted if other in self.cells]

    def takes_part(self, cell: Cell) -> bool:
        """Whether a cell competes with others at its ratio: not if all tokens enter the LLM."""
        variant = self.scores.plan.variants[cell[0]]
        return not variant.method.keeps_all and variant.form != INSIDE

    def best(self, ratio: str, column: str, label: str) -> Cell:
        """The cell of a ratio with the most right; of equals the first."""
        part = self.columns[column][label]
        rivals = [cell for cell in self.cells if cell[1] == ratio and self.takes_part(cell)]
        return max(rivals, key=lambda cell: self.scores.counts(cell, part)[0].sum())
