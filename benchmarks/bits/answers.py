"""Answers on rendered clips, for every form of the kept features at several ratios.

A form's answers are compared with the truth, and with those from the same tokens in float32.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stsimdiff_cli import pipeline
from stsimdiff_cli.evaluation.answering import Answerer, Settings
from stsimdiff_cli.evaluation.tasks.base import Sample, by_video
from stsimdiff_cli.evaluation.tasks.ladder import LadderClips
from stsimdiff_cli.evaluation.tasks.rendered import RenderedTask
from stsimdiff_cli.evaluation.tasks.rendered_clips import RenderedClips
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.synthetic.rungs import RUNGS

from .forms import OFFERED, forms_of

FORMAT = "stsimdiff.bits/1"
FRAMES = 32
RATIOS = ("0.05", "0.1", "0.2", "0.3", "0.5", "1")
#: Where trials are measured, and the rungs of the ladder.
TRIED = ("0.3",)
METHOD = "st-simdiff"

Row = dict[str, Any]


def measure(model: str, clips: int, rung_clips: int, seed: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """The report: for every set of clips, ratio and form a row with counts for each clip."""
    settings = Settings(model, FRAMES, runtime=Runtime(device="cpu"))
    answerer = Answerer(settings)
    sets: dict[str, RenderedTask] = {"rendered": RenderedClips(clips, FRAMES, seed)}
    if rung_clips:
        sets |= {name: LadderClips((name,), rung_clips, FRAMES, seed) for name in RUNGS}
    rows: dict[tuple[str, str, str], Row] = {}
    for name, task in sets.items():
        for number, samples in enumerate(by_video(task.load_samples()).values(), 1):
            tell(f"{name}: clip {number}")
            _ask(name, task, samples, answerer, rows)
    return {
        "format": FORMAT,
        "model": model,
        "fingerprint": open_family(model).checkpoint.fingerprint,
        "method": METHOD,
        "frames": FRAMES,
        "seed": seed,
        "rows": list(rows.values()),
    }


def _ask(name: str, task: RenderedTask, samples: list[Sample], answerer: Answerer, rows: dict[Any, Row]) -> None:
    """Add what one clip gives to the rows."""
    tokens = task.encode(samples[0], answerer.settings, (), answerer.context())
    prompts = [sample.prompt for sample in samples]
    for ratio in RATIOS if name == "rendered" else TRIED:
        video = pipeline.compress_tokens(tokens, ratio, METHOD, answerer.settings.runtime, context=answerer.context())
        reference: list[str] = []
        with tempfile.TemporaryDirectory() as folder:
            for form, size, stored in forms_of(video, Path(folder), name == "rendered" and ratio in TRIED):
                texts = [answer.text for answer in answerer.answer(stored, prompts).answers]
                reference = reference or texts
                row = rows.setdefault(
                    (name, ratio, form),
                    {"set": name, "ratio": float(ratio), "form": form, "offered": form in OFFERED,
                     "asked": [], "right": [], "changed": [], "bytes": [], "seconds": []},
                )  # fmt: skip
                row["asked"].append(len(texts))
                row["right"].append(sum(task.same(text, str(s.answer)) for text, s in zip(texts, samples, strict=True)))
                row["changed"].append(sum(text != before for text, before in zip(texts, reference, strict=True)))
                row["bytes"].append(size)
                row["seconds"].append(video.grid.source.seconds)
