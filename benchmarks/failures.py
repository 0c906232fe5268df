"""Why a method fails: how many tokens of the object that a question is about survive each of its steps.

    python benchmarks/failures.py --method st-simdiff --ratio 0.1 --clips 100

The clips and questions are those of `stsimdiff bench --seed 0`. Rendered clips say which object lies under each token.
An object's tokens are those that it covers most, in all slots; those of an event lie where something is not as it was
in the first slot. Prints every wrong answer, then a table over all questions.
"""

from __future__ import annotations

import argparse
import statistics

import numpy as np
import torch

from stsimdiff_cli import pipeline
from stsimdiff_cli.evaluation.answering import Settings
from stsimdiff_cli.evaluation.tasks.base import by_video
from stsimdiff_cli.evaluation.tasks.rendered_clips import RenderedClips
from stsimdiff_cli.layer_pruning import LayerState
from stsimdiff_cli.methods.base import Method
from stsimdiff_cli.methods.spec import parse_method
from stsimdiff_cli.models.inference.model_cache import ModelCache
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.pipeline import Context
from stsimdiff_cli.ratio import parse_ratio
from stsimdiff_cli.records import VideoTokens
from stsimdiff_cli.synthetic.clips import Clip
from stsimdiff_cli.synthetic.owners import CELLS, names_under
from stsimdiff_cli.synthetic.questions import GROUPS


def owners(clip: Clip) -> list[list[str | None]]:
    """(T, 49): "red star" and the like under each token, "" for background, None for a border."""
    return [names_under(clip, frame) for frame in range(clip.script.frames)]


def asked_about(clip: Clip, kind: str, text: str) -> np.ndarray | None:
    """(N,) bool: the tokens that a question is about; None where there is no such thing (count, nothing)."""
    table = owners(clip)
    if kind in ("colour", "shape"):
        words = text.replace("?", "").split()
        names = {body.name for body in clip.script.scenes[0] if body.colour in words or body.shape in words}
        return np.array([cell in names for row in table for cell in row])
    if kind in GROUPS["event"] + GROUPS["time"] and kind != "nothing":
        changed = [[t >= clip.script.cut or (a != b and None not in (a, b)) for a, b in zip(row, table[0], strict=True)]
                   for t, row in enumerate(table)]  # fmt: skip
        return np.array(changed).flatten()
    return None


def slots_of_object(clip: Clip, kept: torch.Tensor) -> str:
    """In how many of its slots the body of the event, as it was before, still has a token."""
    body = clip.script.events[0].body if clip.script.events else None
    if body is None:
        return ""
    table = owners(clip)
    there = sum(body.name in row for row in table)
    left = {place // CELLS for place in kept.tolist() if table[place // CELLS][place % CELLS] == body.name}
    return f"; {body.name} in {len(left)} of {there} slots"


def candidates(method: Method, tokens: VideoTokens, ratio: str) -> torch.Tensor | None:
    """What a method lets into the LLM before it prunes there, as indices; None for a method that does not."""
    if not method.inside or "llm" not in method.needs:
        return None
    pruner = method.layer_pruner(tokens, parse_ratio(ratio))
    pruner.before(LayerState(0, 1, tokens.features.tensor().flatten(0, 2)))
    return pruner.index


def main() -> None:
    """Ask, and say what was left of what was asked about."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="st-simdiff")
    parser.add_argument("--ratio", default="0.1")
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    context, settings = Context(ModelCache()), Settings("tiny", 32, runtime=Runtime("cpu"))
    method = parse_method(arguments.method)
    rows: list[tuple[str, bool, int, int, int]] = []  # group, right, tokens asked about, candidates, kept of them
    task = RenderedClips(arguments.clips, 32, arguments.seed)
    for name, samples in by_video(task.load_samples()).items():
        tokens, clip = task.encode(samples[0], settings, (), context), task.render(name)
        video = pipeline.compress_tokens(tokens, arguments.ratio, method, settings.runtime, context=context)
        kept, entering = video.index, candidates(method, tokens, arguments.ratio)
        entering = kept if entering is None else entering
        conversation = pipeline.converse(video, settings.runtime, context=context)
        for sample in samples:
            kind, text, answer = sample.groups["kind"], sample.prompt, sample.answer or ""
            about = asked_about(clip, kind, text)
            if about is None:
                continue
            given = conversation.ask(text, max_new_tokens=16).text
            counts = [int(about.sum()), int(about[entering.numpy()].sum()), int(about[kept.numpy()].sum())]
            group = next(group for group, kinds in GROUPS.items() if kind in kinds)
            rows.append((group, task.same(given, answer), *counts))
            if not rows[-1][1]:
                about_it = f"Tokens {counts[0]}, candidates {counts[1]}, kept {counts[2]}{slots_of_object(clip, kept)}"
                print(f"{name}: {text} {answer}; said {given}. {about_it}")
    print(f"\n{arguments.method} at {arguments.ratio}, {arguments.clips} clips, seed {arguments.seed}")
    print("Questions by how many of the tokens they are about were kept; in brackets those answered rightly")
    print(f"{'':8} {'tokens':>7} {'candidates':>10} {'kept':>6}   none kept      1 to 3          4 or more")
    for group in GROUPS:
        some = [row for row in rows if row[0] == group]
        middle = [statistics.median(row[i] for row in some) for i in (2, 3, 4)]
        parts = [[row for row in some if low <= row[4] <= high] for low, high in ((0, 0), (1, 3), (4, 10**9))]
        shown = [f"{len(part):4d} ({100 * np.mean([row[1] for row in part]) if part else 0:3.0f} %)" for part in parts]
        print(f"{group:8} {middle[0]:7.0f} {middle[1]:10.0f} {middle[2]:6.0f}   {'     '.join(shown)}")


if __name__ == "__main__":
    main()
