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
        "fastervlm": MethodEntry(
            f"{_BASE}.fastervlm:FasterVLM",
            "what the vision encoder attends to most, slot by slot",
            "Zhang et al., arXiv 2412.01818",
            "saliency",
        ),
        "prumerge": MethodEntry(
            f"{_BASE}.prumerge:PruMerge",
            "what the vision encoder attends to, with nearest neighbours merged in",
            "Shang et al., ICCV 2025",
            "keys, saliency",
        ),
        "prumerge+": MethodEntry(
            f"{_BASE}.prumerge_plus:PruMergePlus",
            "outliers of attention and evenly spaced tokens, neighbours merged in",
            "Shang et al., ICCV 2025",
            "keys, saliency",
        ),
        "visionzip": MethodEntry(
            f"{_BASE}.visionzip:VisionZip",
            "what the vision encoder attends to, the rest merged into spaced tokens",
            "Yang et al., CVPR 2025",
            "keys, saliency",
        ),
        "vispruner": MethodEntry(
            f"{_BASE}.vispruner:VisPruner",
            "important tokens by vision attention, then diverse ones, per frame",
            "Zhang et al., ICCV 2025",
            "saliency",
        ),
        "vidcom2": MethodEntry(
            f"{_BASE}.vidcom2:VidCom2",
            "what stands out of frame and video; more of distinct frames",
            "Liu et al., EMNLP 2025",
        ),
        "evs": MethodEntry(
            f"{_BASE}.evs:Evs",
            "the first frame, then what differs most from the frame before",
            "Bagrov et al., 2025; vLLM",
        ),
        "random": MethodEntry(
            f"{_BASE}.random:Random", "a seeded draw without replacement", "lower bound of section 5.1"
        ),
        "uniform": MethodEntry(f"{_BASE}.uniform:Uniform", "evenly spaced tokens", "control"),
        "vanilla": MethodEntry(f"{_BASE}.vanilla:Vanilla", "every token (ratio 1)", "upper bound of section 5.1"),
    },
)
