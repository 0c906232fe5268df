"""What came out for a variant at a ratio, as estimates over the videos of a run.

Counted are bundles, most of them a single question (tasks/base.py). Questions about one video share its tokens, so they
are not independent: whole clusters are drawn (bootstrap.py), which are videos, or all videos that were made from one
source. All estimates of a report share their draws, so that differences between variants are paired.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bootstrap import Accuracy, Bootstrap, Estimate, Numbers
from .plan import WHOLE, Cell, Plan
from .samples_log import Response, SamplesLog
from .tasks.base import Bundle, Part, Sample, Task
from .variants import BASELINE, INSIDE, QUESTION, REFERENCE

EVERYTHING: Part = {}


@dataclass(frozen=True)
class SameCompute:
    """The form for files where as many tokens are alive, on average over the layers, as in a form inside the LLM.

    Right answers are interpolated linearly between the two measured ratios `between`; `difference` is that of the form
    inside from it.
    """

    method: str
    between: list[float]
    accuracy: Estimate
    difference: Estimate


@dataclass(frozen=True)
class Row:
    """What came out for a variant at a ratio. kept and tokens: the fewest and the most of a video.

    seconds are medians. agreement: with the answers that all tokens give. coverage, event_recall and agreement
    are None for tasks without `fidelity`, groups for those with it; accuracy, groups and of_vanilla are None, and
    difference is empty, if no answer is known.

    live: visual tokens alive after each layer, mean over answers; None where the same tokens are in all layers, or if
    some answers lack it. compute: tokens alive on average over all layers, those before the pruning included, as a
    share of the video's, mean over answers. same_compute: see SameCompute; for forms inside the LLM.
    """

    method: str
    ratio: float
    kept: list[int] | None
    tokens: list[int] | None
    without_letter: int
    seconds: dict[str, float]
    coverage: Estimate | None = None
    event_recall: Estimate | None = None
    agreement: Estimate | None = None
    accuracy: dict[str, Accuracy] | None = None
    groups: dict[str, dict[str, Accuracy]] | None = None
    of_vanilla: Estimate | None = None
    difference: dict[str, Estimate] = field(default_factory=dict)  # from the reference at this ratio, and from vanilla
    live: list[float] | None = None
    compute: float | None = None
    same_compute: list[SameCompute] = field(default_factory=list)


@dataclass(frozen=True)
class Scores:
    """The responses of a run to some samples, counted for any cell and any part of the questions.

    parts are those that rows show, by label; the bootstrap draws with `seed`. With `lone`, a figure that only one
    cluster has gets an interval too: that figure alone.
    """

    task: Task
    samples: list[Sample]
    plan: Plan
    log: SamplesLog
    parts: dict[str, Part]
    seed: int = 0
    lone: bool = False

    @cached_property
    def labelled(self) -> list[Sample]:
        """The questions whose answer is known."""
        return [sample for sample in self.samples if sample.answer is not None]

    @cached_property
    def bundles(self) -> list[Bundle]:
        """What is counted."""
        return self.task.bundles(self.samples)

    @cached_property
    def number(self) -> dict[str, int]:
        """The place of each cluster in arrays (clusters,): those of labelled questions, if there are any."""
        clusters = dict.fromkeys(sample.cluster for sample in self.labelled or self.samples)
        return {cluster: i for i, cluster in enumerate(clusters)}

    @cached_property
    def bootstrap(self) -> Bootstrap:
        """The draws that all estimates share."""
        return Bootstrap.over(len(self.number), self.seed)

    def response(self, cell: Cell, sample: Sample) -> Response:
        """What a variant answered at a ratio."""
        name, ratio = cell
        return self.log[name, float(ratio), sample.id]

    def plain_row(self, cell: Cell) -> Row:
        """What is known of a variant at a ratio without any right answer."""
        name, ratio = cell
        responses = [self.response(cell, sample) for sample in self.samples]
        row = Row(
            method=name,
            ratio=float(ratio),
            kept=_span([response.kept for response in responses]),
            tokens=_span([response.tokens for response in responses]),
            without_letter=sum(not response.extracted for response in responses),
            seconds=_median_seconds(responses),
            **_alive(responses, self.plan.variants[name].form == INSIDE),
        )
        return replace(row, **self._fidelity(cell, responses)) if self.task.fidelity else row

    def row(self, cell: Cell) -> Row:
        """Everything about a variant at a ratio."""
        name, ratio = cell
        row = self.plain_row(cell)
        if not self.labelled:
            return row
        right, _ = self.counts(cell)
        others = {(method, float(text)): (method, text) for method, text in self.plan.cells() if method != name}
        compared = [others[key] for key in ((REFERENCE, float(ratio)), (BASELINE, 1.0)) if key in others]
        return replace(
            row,
            accuracy=self.accuracies(cell),
            groups=None if self.task.fidelity else self._groups(cell),
            of_vanilla=self.estimate(right, self.counts(WHOLE)[0]),
            difference={other[0]: self.difference(cell, other) for other in compared},
            same_compute=self._same_compute(cell, row.compute),
        )

    def _same_compute(self, cell: Cell, compute: float | None) -> list[SameCompute]:
        """The method's own form for files and the reference, at the mean of tokens alive of a form inside the LLM.

        Left out where the run has no ratios on both sides of it.
        """
        if self.plan.variants[cell[0]].form != INSIDE or compute is None:
            return []
        right, asked = self.counts(cell)
        found = []
        for name in dict.fromkeys((cell[0].partition("@")[0], REFERENCE)):
            ratios = {
                1.0: WHOLE,
                **{float(text): (method, text) for method, text in self.plan.cells() if method == name},
            }
            below = max((ratio for ratio in ratios if ratio <= compute), default=None)
            above = min((ratio for ratio in ratios if ratio >= compute), default=None)
            if name not in self.plan.variants or below is None or above is None:
                continue
            part = (compute - below) / (above - below) if above > below else 0.0
            between = (1 - part) * self.counts(ratios[below])[0] + part * self.counts(ratios[above])[0]
            accuracy, difference = self.estimate(between, asked), self.estimate(right - between, asked)
            found.append(SameCompute(name, [below, above], accuracy, difference))
        return found

    def accuracies(self, cell: Cell) -> dict[str, Accuracy]:
        """Percent of the labelled questions answered rightly, for every part."""
        return {label: self.accuracy(cell, part) for label, part in self.parts.items()}

    def counts(self, cell: Cell, part: Part = EVERYTHING) -> tuple[Numbers, Numbers]:
        """Right and asked (clusters,) of the bundles in a part."""
        chosen = self._in_part(part)
        where, size = self._clusters[chosen], len(self.number)
        return (
            np.bincount(where, self._right(cell)[chosen], size).astype(float),
            np.bincount(where, minlength=size).astype(float),
        )

    def difference(self, cell: Cell, other: Cell, part: Part = EVERYTHING) -> Estimate:
        """How many more percent of the bundles in a part are right in a cell than in another one, paired."""
        (right, asked), (others, _) = self.counts(cell, part), self.counts(other, part)
        return self.estimate(right - others, asked)

    @cached_property
    def _clusters(self) -> NDArray[np.int64]:
        """The number of the cluster of each bundle."""
        return np.array([self.number[bundle.cluster] for bundle in self.bundles], dtype=np.int64)

    def _in_part(self, part: Part) -> NDArray[np.bool_]:
        """Which of the bundles belong to a part."""
        key = tuple(sorted(part.items()))
        if key not in self._masks:
            bundles = (all(b.groups.get(group) in values for group, values in key) for b in self.bundles)
            self._masks[key] = np.fromiter(bundles, bool, len(self.bundles))
        return self._masks[key]

    def _right(self, cell: Cell) -> NDArray[np.bool_]:
        """Which of the bundles are right as a whole in a cell."""
        if cell not in self._wholly_right:
            self._wholly_right[cell] = np.array(
                [all(self.response(cell, sample).right for sample in bundle.samples) for bundle in self.bundles], bool
            )
        return self._wholly_right[cell]

    @cached_property
    def _masks(self) -> dict[Any, NDArray[np.bool_]]:
        return {}

    @cached_property
    def _wholly_right(self) -> dict[Cell, NDArray[np.bool_]]:
        return {}

    def accuracy(self, cell: Cell, part: Part = EVERYTHING) -> Accuracy:
        """Percent of the bundles in a part that are right."""
        right, asked = self.counts(cell, part)
        return Accuracy(int(right.sum()), int(asked.sum()), **asdict(self.estimate(right, asked)))

    def estimate(self, above: Numbers, below: Numbers) -> Estimate:
        """A share in percent with its interval, from numbers (clusters,)."""
        share = self.bootstrap.percent(above, below)
        return share if self.lone or (below > 0).sum() > 1 else replace(share, low=None, high=None)

    def _groups(self, cell: Cell) -> dict[str, dict[str, Accuracy]]:
        """Percent of the labelled questions answered rightly, by group and value."""
        groups: dict[str, dict[str, Accuracy]] = {}
        for group, value in sorted({part for sample in self.labelled for part in sample.groups.items()}):
            groups.setdefault(group, {})[value] = self.accuracy(cell, {group: (value,)})
        return groups

    def _over_clusters(self, of: Iterable[tuple[str, float | None]]) -> tuple[Numbers, Numbers]:
        """Sum of the figures of each cluster, and how many there are (clusters,); those that are None are left out."""
        total, count = np.zeros(len(self.number)), np.zeros(len(self.number))
        for cluster, figure in of:
            if figure is not None:
                total[self.number[cluster]] += figure
                count[self.number[cluster]] += 1
        return total, count

    def _fidelity(self, cell: Cell, responses: list[Response]) -> dict[str, Any]:
        """The fields of a row that need no known answer, and the seconds that a video takes."""
        whole = [self.response(WHOLE, sample) for sample in self.samples]
        agree = [self.task.same(mine.parsed, theirs.parsed) for mine, theirs in zip(responses, whole, strict=True)]
        videos: dict[str, list[Response]] = {}
        for response in responses:
            videos.setdefault(response.video, []).append(response)
        if self.plan.variants[cell[0]].form != QUESTION:  # tokens are kept once for all questions
            kept = {video: some[:1] for video, some in videos.items()}
        else:
            kept = videos
        cluster = {sample.video: sample.cluster for sample in self.samples}
        means = {
            what: [(cluster[video], _mean(getattr(r, what) for r in some)) for video, some in kept.items()]
            for what in ("coverage", "event_recall")
        }
        return {
            "agreement": self.estimate(
                *self._over_clusters((s.cluster, one) for s, one in zip(self.samples, agree, strict=True))
            ),
            **{what: self.estimate(*self._over_clusters(figures)) for what, figures in means.items()},
            "seconds": {
                "select": statistics.median(sum(r.seconds["select"] for r in some) for some in kept.values()),
                "answer": statistics.median(
                    sum(r.seconds["prefill"] for r in kept[video]) + sum(r.seconds["answer"] for r in some)
                    for video, some in videos.items()
                ),
            },
        }


def _mean(values: Iterable[float | None]) -> float | None:
    """The mean of the figures that there are; None without any."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _alive(responses: list[Response], inside: bool) -> dict[str, Any]:
    """The fields `live` and `compute` of a row."""
    if not inside:
        return {"compute": statistics.fmean(r.kept / r.tokens for r in responses) if responses else None}
    live = [response.live for response in responses if response.live]
    if not live or len(live) < len(responses):
        return {}
    shares = [statistics.fmean(each) / response.tokens for each, response in zip(live, responses, strict=True)]
    return {"live": [statistics.fmean(layer) for layer in zip(*live, strict=True)], "compute": statistics.fmean(shares)}


def _span(numbers: list[int]) -> list[int] | None:
    return [min(numbers), max(numbers)] if numbers else None


def _median_seconds(responses: list[Response]) -> dict[str, float]:
    """The median of each step: of a video once, of an answer for each question; {} without responses."""
    if not responses:
        return {}
    videos = {response.video: response.seconds for response in responses}
    steps = ("encode", "select", "prefill")
    seconds = {step: statistics.median(each[step] for each in videos.values()) for step in steps}
    return {**seconds, "answer": statistics.median(response.seconds["answer"] for response in responses)}
