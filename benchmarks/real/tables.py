"""The reports of the rung `real` as tables."""

from __future__ import annotations

from typing import Any

import numpy as np

from stsimdiff_cli.evaluation.bootstrap import Bootstrap
from stsimdiff_cli.evaluation.text_table import TextTable, difference

from . import coverage, cuts

Json = dict[str, Any]
#: The controls that every method is compared with, clip by clip.
CONTROLS = ("random", "uniform")
SEED = 0  # of the bootstrap


def tables(report: Json) -> list[TextTable]:
    """All tables of a report."""
    if report["format"] == coverage.FORMAT:
        return [compared_table(report), origins_table(report), graph_table(report), by_clip_table(report)]
    return [ranks_table(report), events_table(report)]


def reads(report: Json) -> bool:
    """Whether a report is one of this rung."""
    return report["format"] in (coverage.FORMAT, cuts.FORMAT)


def _cells(report: Json, figure: str) -> dict[tuple[str, float], np.ndarray]:
    """A figure for every method and ratio: (clips,), in percent."""
    names = [clip["clip"] for clip in report["clips"]]
    found: dict[tuple[str, float], dict[str, float]] = {}
    for row in report["rows"]:
        found.setdefault((row["method"], row["ratio"]), {})[row["clip"]] = 100 * row[figure]
    return {cell: np.array([values[name] for name in names]) for cell, values in found.items()}


def compared_table(report: Json) -> TextTable:
    """Means over clips, and paired differences from the controls with their intervals over clips."""
    mean, fifth = _cells(report, "mean"), _cells(report, "fifth")
    clips = len(report["clips"])
    bootstrap = Bootstrap.over(clips, SEED)

    def against(method: str, ratio: float, control: str) -> str:
        if method == control:
            return "-"
        paired = mean[method, ratio] - mean[control, ratio]
        estimate = vars(bootstrap.percent(paired / 100, np.ones(clips)))
        return f"{difference(estimate)}, {int((paired > 0).sum())} of {clips}"

    lines = []
    for method, ratio in sorted(mean, key=lambda cell: cell[1]):
        figures = [f"{values[method, ratio].mean():.1f}" for values in (mean, fifth)]
        lines.append([f"{ratio:g}", method, *figures, *(against(method, ratio, control) for control in CONTROLS)])
    header = ["ratio", "method", "coverage", "5th percentile", *(f"− {control}, better on" for control in CONTROLS)]
    return TextTable(f"Coverage of real tokens, %: means over {clips} clips", header, lines)


def origins_table(report: Json) -> TextTable:
    """What the clips are, and their packages and licences."""
    names = ("clip", "what", "package", "licence")
    return TextTable(
        "Clips: where they come from", [*names], [[clip[name] for name in names] for clip in report["clips"]], 4
    )


def graph_table(report: Json) -> TextTable:
    """What the paper's graph is on each clip."""
    lines = []
    for clip in report["clips"]:
        shares = [f"{100 * clip[name]:.0f}" for name in ("largest_component", "alone")]
        cosines = " / ".join(f"{value:.2f}".replace("-", "−") for value in clip["temporal_cosine"])
        lines.append([clip["clip"], str(clip["components"]), *shares, cosines, str(clip["events"])])
    header = ["clip", "components", "largest, %", "alone, %", "temporal cosine, 5 / 50 / 95 %", "events"]
    return TextTable("Graph of each clip: tau_sim 0.8 and tau_diff 0.2, 12544 tokens", header, lines, left=1)


def by_clip_table(report: Json, ratio: float = 0.1) -> TextTable:
    """One column for each clip."""
    lines = [
        [method, *(f"{value:.1f}" for value in values)]
        for (method, one), values in _cells(report, "mean").items()
        if one == ratio
    ]
    header = ["method", *(clip["clip"] for clip in report["clips"])]
    return TextTable(f"Coverage by clip at ratio {ratio:g}, %", header, lines, left=1)


def _sets(report: Json) -> list[tuple[str, list[Json]]]:
    """Real clips one by one, and all joined ones together."""
    sets = [(video["video"], [video]) for video in report["clips"]]
    return [*sets, (f"{len(report['joined'])} joined", report["joined"])]


def ranks_table(report: Json) -> TextTable:
    """How many of K cuts are among the K and the 2 K slots of highest change."""
    lines = []
    for name, videos in _sets(report):
        total = sum(len(video["cuts"]) for video in videos)
        among = [
            sum(rank <= times * len(video["cuts"]) for video in videos for rank in video["ranks"]) for times in (1, 2)
        ]
        worst = max(rank for video in videos for rank in video["ranks"])
        lowest = min(change for video in videos for change in video["change_at_cuts"])
        highest = max(video["change_elsewhere"] for video in videos)
        shares = [f"{100 * count / total:.0f}" for count in among]
        lines.append([name, str(total), *shares, str(worst), f"{lowest:.2f}", f"{highest:.2f}"])
    header = ["clip", "cuts", "top K, %", "top 2 K, %", "worst rank", "least change at a cut", "largest elsewhere"]
    return TextTable(
        "Cuts by the rank of change: recall among the K or 2 K highest of 64 slots, K cuts", header, lines, 1
    )


def events_table(report: Json) -> TextTable:
    """Events and kept tokens at cuts, for each threshold and method."""
    lines = []
    for name, videos in _sets(report):
        cells = sum(len(video["cuts"]) * video["cells"] for video in videos)
        for spec in videos[0]["kept"]:
            kept = sum(video["kept"][spec] for video in videos)
            text = spec.partition("tau_diff=")[2]
            shares = ["-", "-"]
            if text:
                events, at_cuts = (sum(video["events"][text][what] for video in videos) for what in ("all", "at_cuts"))
                shares = [f"{100 * at_cuts / cells:.1f}", f"{100 * at_cuts / events:.1f}" if events else "-"]
            lines.append([name, spec, *shares, f"{100 * kept / cells:.1f}"])
    header = ["clip", "method", "cells of a cut that are events", "events that are at a cut", "cells of a cut kept"]
    return TextTable(f"Cuts by events, %: Eq. 6, and what is kept at ratio {report['ratio']}", header, lines)
