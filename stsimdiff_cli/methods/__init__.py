"""The table of methods. A method is one file here and one line below."""

from __future__ import annotations

from dataclasses import dataclass

from ..registry import Entry, Table

_BASE = "stsimdiff_cli.methods"
#: Where a method runs.
TOKENS = "tokens"
INSIDE = "tokens or LLM"


@dataclass(frozen=True)
class MethodEntry(Entry):
    """A method's line: what it needs by default (evidence of the encoder, or the LLM), and where it runs.

    TOKENS: before the LLM; INSIDE: also between its layers, while it reads the prompt.
    """

    needs: str = "nothing"
    runs: str = TOKENS


METHODS = Table(
    "method",
    {
        "st-simdiff": MethodEntry(
            f"{_BASE}.st_simdiff:StSimDiff",
            "community representatives and temporal events, pruned by attention",
            "Luo et al., ICLR 2026",
            "llm",
            INSIDE,
        ),
        "fastv": MethodEntry(
            f"{_BASE}.fastv:FastV",
            "what the last prompt token attends to in an early layer",
            "Chen et al., ECCV 2024",
            "llm",
            INSIDE,
        ),
        "framefusion": MethodEntry(
            f"{_BASE}.framefusion:FrameFusion",
            "one token for what repeats over time, then what is attended to",
            "Fu et al., ICCV 2025",
            "llm",
            INSIDE,
        ),
        "fitprune": MethodEntry(
            f"{_BASE}.fitprune:FitPrune",
            "what text and image attend to, fewer from layer to layer",
            "Ye et al., AAAI 2025",
            "llm",
            INSIDE,
        ),
        "random": MethodEntry(
            f"{_BASE}.random:Random", "a seeded draw without replacement", "lower bound of section 5.1"
        ),
        "uniform": MethodEntry(f"{_BASE}.uniform:Uniform", "evenly spaced tokens", "control"),
        "vanilla": MethodEntry(f"{_BASE}.vanilla:Vanilla", "every token (ratio 1)", "upper bound of section 5.1"),
    },
)
