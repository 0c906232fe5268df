"""The table of methods. A method is one class in a file of this folder and one entry below.

A method may also live in another package, which offers it in the entry-point group `stsimdiff.methods` under its name:

    [project.entry-points."stsimdiff.methods"]
    my-method = "my_package.my_method:MyMethod"        # a subclass of stsimdiff_cli.methods.base.Method

`summary` (or the first line of the docstring) and `citation` of the class appear in `stsimdiff methods`.
examples/method-package is such a package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..registry import Entry, Plugins, Table, summary_of

_BASE = "stsimdiff_cli.methods"
#: Where a method runs.
TOKENS = "tokens"
INSIDE = "tokens or LLM"
#: What compresses if nothing is said: nothing was ahead of it on a rung of the bench, and it asks no LLM.
DEFAULT = "st-simdiff+"
#: The method of the paper, which ranks by importance: by default what the LLM attends to with a prompt.
PAPERS = "st-simdiff"


def default_method(ranked: bool) -> str:
    """What compresses if no method is named; `ranked` says whether an importance or a prompt is."""
    return PAPERS if ranked else DEFAULT


@dataclass(frozen=True)
class MethodEntry(Entry):
    """A method's line, with what its class says of `needs` and `inside`.

    `needs` is the evidence that the method needs by default, in words. `runs` is TOKENS (before the LLM) or INSIDE
    (also between its layers, while it reads the prompt). A built-in method repeats both here, because the listing
    answers without importing torch; a test compares them with the class.
    """

    needs: str = "nothing"
    runs: str = TOKENS


def needs_and_runs(cls: Any) -> tuple[str, str]:
    """The two fields of MethodEntry from the class of a method, with its default parameters."""
    return ", ".join(sorted(cls().needs)) or "nothing", INSIDE if cls.inside else TOKENS


def _describe(cls: Any) -> MethodEntry:
    """The entry of a method that another package offers; TypeError if a parameter is not declared as one."""
    cls.check_parameters()
    needs, runs = needs_and_runs(cls)
    target = f"{cls.__module__}:{cls.__qualname__}"
    return MethodEntry(target, summary_of(cls), citation=cls.citation, needs=needs, runs=runs)


METHODS = Table(
    "method",
    {
        "st-simdiff": MethodEntry(
            f"{_BASE}.st_simdiff:StSimDiff",
            "community representatives and temporal events, pruned by attention",
            citation="Luo et al., ICLR 2026",
            needs="llm",
            runs=INSIDE,
        ),
        "st-simdiff+": MethodEntry(
            f"{_BASE}.st_simdiff:StSimDiffPlus",
            "the sharpest events, then tokens that cover every community; no model",
            citation="this project, after Luo et al.",
        ),
        "fastv": MethodEntry(
            f"{_BASE}.fastv:FastV",
            "what the last prompt token attends to in an early layer",
            citation="Chen et al., ECCV 2024",
            needs="llm",
            runs=INSIDE,
        ),
        "framefusion": MethodEntry(
            f"{_BASE}.framefusion:FrameFusion",
            "one token for what repeats over time, then what is attended to",
            citation="Fu et al., ICCV 2025",
            needs="llm",
            runs=INSIDE,
        ),
        "fitprune": MethodEntry(
            f"{_BASE}.fitprune:FitPrune",
            "what text and image attend to, fewer from layer to layer",
            citation="Ye et al., AAAI 2025",
            needs="llm",
            runs=INSIDE,
        ),
        "fastervlm": MethodEntry(
            f"{_BASE}.fastervlm:FasterVLM",
            "what the vision encoder attends to most, slot by slot",
            citation="Zhang et al., arXiv 2412.01818",
            needs="saliency",
        ),
        "prumerge": MethodEntry(
            f"{_BASE}.prumerge:PruMerge",
            "what the vision encoder attends to, with nearest neighbours merged in",
            citation="Shang et al., ICCV 2025",
            needs="keys, saliency",
        ),
        "prumerge+": MethodEntry(
            f"{_BASE}.prumerge:PruMergePlus",
            "outliers of attention and evenly spaced tokens, neighbours merged in",
            citation="Shang et al., ICCV 2025",
            needs="keys, saliency",
        ),
        "visionzip": MethodEntry(
            f"{_BASE}.visionzip:VisionZip",
            "what the vision encoder attends to, the rest merged into spaced tokens",
            citation="Yang et al., CVPR 2025",
            needs="keys, saliency",
        ),
        "vispruner": MethodEntry(
            f"{_BASE}.vispruner:VisPruner",
            "important tokens by vision attention, then diverse ones, per frame",
            citation="Zhang et al., ICCV 2025",
            needs="saliency",
        ),
        "flashvid": MethodEntry(
            f"{_BASE}.flashvid:FlashVID",
            "salient and diverse tokens, the rest merged along trees through time",
            citation="Fan et al., ICLR 2026",
            needs="saliency",
        ),
        "fastvid": MethodEntry(
            f"{_BASE}.fastvid:FastVID",
            "salient tokens, and density peaks that a segment's rest is merged into",
            citation="Shen et al., NeurIPS 2025",
            needs="saliency",
        ),
        "floc": MethodEntry(
            f"{_BASE}.floc:FLoC",
            "what stands for all other tokens best, stretch by stretch of time",
            citation="Cho et al., ICLR 2026",
        ),
        "vidcom2": MethodEntry(
            f"{_BASE}.vidcom2:VidCom2",
            "what stands out of frame and video; more of distinct frames",
            citation="Liu et al., EMNLP 2025",
        ),
        "evs": MethodEntry(
            f"{_BASE}.evs:Evs",
            "the first frame, then what differs most from the frame before",
            citation="Bagrov et al., 2025; vLLM",
        ),
        "downsample": MethodEntry(
            f"{_BASE}.downsample:Downsample",
            "every slot as a smaller picture",
            citation="control; Liao et al., ACL 2026",
        ),
        "random": MethodEntry(
            f"{_BASE}.random:Random",
            "a seeded draw without replacement",
            citation="lower bound of section 5.1",
        ),
        "uniform": MethodEntry(
            f"{_BASE}.uniform:Uniform",
            "evenly spaced tokens",
            citation="control",
        ),
        "vanilla": MethodEntry(
            f"{_BASE}.vanilla:Vanilla",
            "every token (ratio 1)",
            citation="upper bound of section 5.1",
        ),
    },
    Plugins("stsimdiff.methods", f"{_BASE}.base:Method", _describe),
)
