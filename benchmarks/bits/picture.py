"""The picture of a report about fewer bits: right answers against bytes for a minute of video, a line for each form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import NullFormatter, ScalarFormatter

from stsimdiff_cli.evaluation.bootstrap import Bootstrap
from stsimdiff_cli.plotting import curve, picture, plain_axes

from .forms import OFFERED
from .tables import kilobytes_a_minute, percent, rows_of


def save_picture(path: Path, report: dict[str, Any]) -> None:
    """Draw every form over all ratios, with 95 % intervals over clips."""
    rows = rows_of(report, "rendered")
    bootstrap = Bootstrap.over(len(rows[0]["asked"]), report["seed"])
    with picture(path, 7.0, 4.2) as figure:
        axes = figure.add_subplot()
        plain_axes(axes, "Ratio and bits at equal bytes", "kB for a minute of video", "right answers, %")
        axes.set_xscale("log")
        for number, form in enumerate(OFFERED):
            chosen = sorted((row for row in rows if row["form"] == form), key=kilobytes_a_minute)
            sizes = [kilobytes_a_minute(row) for row in chosen]
            right = [percent(row) for row in chosen]
            spans = [bootstrap.percent(np.array(row["right"], float), np.array(row["asked"], float)) for row in chosen]
            low, high = [float(span.low or 0) for span in spans], [float(span.high or 0) for span in spans]
            colour = curve(axes, number, sizes, right, low, high, markersize=4, label=form)
            for row, x, y in zip(chosen, sizes, right, strict=True):
                axes.annotate(
                    f"{row['ratio']:g}", (x, y), (3, -9), textcoords="offset points", fontsize=6, color=colour
                )
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.legend(frameon=False, loc="lower right")
        figure.tight_layout()
