"""The table of methods. A method is one file here and one line below."""

from __future__ import annotations

from ..registry import Entry, Table

_BASE = "stsimdiff_cli.methods"

METHODS = Table(
    "method",
    {
        "st-simdiff": Entry(
            f"{_BASE}.st_simdiff:StSimDiff",
            "community representatives and temporal events, pruned by attention",
            "Luo et al., ICLR 2026",
        ),
        "fastv": Entry(
            f"{_BASE}.fastv:FastV", "what the last prompt token attends to in an early layer", "Chen et al., ECCV 2024"
        ),
        "framefusion": Entry(
            f"{_BASE}.framefusion:FrameFusion",
            "one token for what repeats over time, then what is attended to",
            "Fu et al., ICCV 2025",
        ),
        "fitprune": Entry(
            f"{_BASE}.fitprune:FitPrune",
            "what text and image attend to, fewer from layer to layer",
            "Ye et al., AAAI 2025",
        ),
        "random": Entry(f"{_BASE}.random:Random", "a seeded draw without replacement", "lower bound of section 5.1"),
        "uniform": Entry(f"{_BASE}.uniform:Uniform", "evenly spaced tokens", "control"),
        "vanilla": Entry(f"{_BASE}.vanilla:Vanilla", "every token (ratio 1)", "upper bound of section 5.1"),
    },
)
