"""How well `ask --when` finds events: rendered clips, whose event times are known.

    python -m benchmarks.when [--model tiny] [--clips 40] [--seed 7]

A question about the event counts as found if the slot that its answer looked at most is one of the event's, or next to
one. The controls are a slot by chance, and the slot of which most tokens were kept.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
import torch

from benchmarks import tables
from stsimdiff_cli import pipeline
from stsimdiff_cli.evaluation.answering import Answerer, Settings
from stsimdiff_cli.evaluation.tasks.base import by_video
from stsimdiff_cli.evaluation.tasks.rendered_clips import RenderedClips
from stsimdiff_cli.models import EMBEDDED
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.synthetic.questions import GROUPS, NEVER, NOTHING
from stsimdiff_cli.synthetic.script import Event

from .when_tables import FORMAT

FRAMES, RATIOS = 32, ("0.1", "0.3", "1")
KINDS = (*GROUPS["event"], *GROUPS["time"])


def measure(model: str, clips: int, seed: int) -> dict[str, Any]:
    """One row for every question about an event, at every ratio."""
    answerer = Answerer(Settings(model, FRAMES, runtime=Runtime(device="cpu")))
    task, rows = RenderedClips(clips, FRAMES, seed), []
    for name, samples in by_video(task.load_samples()).items():
        (event,) = task.render(name).script.events
        asked = [s for s in samples if s.groups["kind"] in KINDS and s.answer not in (NEVER, NOTHING)]
        if not asked:
            continue
        tokens = task.encode(asked[0], answerer.settings, (), answerer.context())
        for ratio in RATIOS:
            runtime = answerer.settings.runtime
            video = pipeline.compress_tokens(tokens, ratio, runtime=runtime, context=answerer.context())
            conversation = pipeline.converse(video, runtime, attention=True, context=answerer.context())
            slots, height, width = video.grid.shape
            kept = torch.bincount(video.index // (height * width), minlength=slots)
            near = _near(event, slots)
            for sample in asked:
                answer = conversation.ask(sample.prompt)
                order = np.argsort(-np.array(answer.slots), kind="stable")
                rows.append(
                    {
                        "clip": name,
                        "ratio": float(ratio),
                        "kind": sample.groups["kind"],
                        "right": task.same(answer.text, str(sample.answer)),
                        "first": bool(near[order[0]]),
                        "three": bool(near[order[:3]].any()),
                        "chance": float(near.mean()),
                        "most kept": bool(near[int(kept.argmax())]) if ratio != "1" else None,
                    }
                )
    fingerprint = open_family(model).checkpoint.fingerprint
    return {"format": FORMAT, "model": model, "fingerprint": fingerprint, "seed": seed, "frames": FRAMES, "rows": rows}


def _near(event: Event, slots: int) -> np.ndarray:
    """Which slots (T,) are the event's, or next to one; the embedded model has a slot for each frame."""
    numbers = np.arange(slots)
    return (numbers >= event.first - 1) & (numbers <= event.last + 1)


def main() -> None:
    """Measure, and write report and tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=EMBEDDED)
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    folder = tables.REPORTS / "when"
    folder.mkdir(exist_ok=True)
    (folder / "report.json").write_text(json.dumps(measure(given.model, given.clips, given.seed)) + "\n")
    tables.main()


if __name__ == "__main__":
    main()
