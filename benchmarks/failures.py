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
from stsimdiff_cli.evaluation.bench_report import same
from stsimdiff_cli.evaluation.exams import RenderedClip, rendered_clips
from stsimdiff_cli.layer_pruning import LayerState
from stsimdiff_cli.methods.base import Method
from stsimdiff_cli.methods.spec import parse_method
from stsimdiff_cli.models.inference.model_cache import ModelCache
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.pipeline import Context
from stsimdiff_cli.ratio import parse_ratio
from stsimdiff_cli.records import VideoTokens
from stsimdiff_cli.synthetic.clips import Clip, render_clip
from stsimdiff_cli.synthetic.questions import GROUPS
from stsimdiff_cli.synthetic.shapes import token_labels


def owners(clip: Clip) -> list[list[str]]:
    """(T, 36): "red star" and the like under each token, "" for background, "?" for a border."""
    known: dict[tuple, list[str]] = {}
    for scene in clip.scenes:
        if scene not in known:
            names = [f"{t.colour} {t.name}" for t in scene]
            known[scene] = ["?" if o == -2 else "" if o == -1 else names[o] for o in token_labels(scene)[0].flatten()]
    return [known[scene] for scene in clip.scenes]


def asked_about(clip: Clip, kind: str, text: str) -> np.ndarray | None:
    """(N,) bool: the tokens that a question is about; None where there is no such thing (count, nothing)."""
    table = owners(clip)
    if kind in ("colour", "shape"):
        words = text.replace("?", "").split()
        names = {f"{t.colour} {t.name}" for t in clip.scenes[0] if t.colour in words or t.name in words}
        return np.array([cell in names for row in table for cell in row])
    if kind in GROUPS["event"] + GROUPS["when"]:
        cut = clip.event.first if clip.event and clip.event.kind == "cut" else len(table)
        changed = [[t >= cut or (a != b and "?" not in (a, b)) for a, b in zip(row, table[0], strict=True)]
                   for t, row in enumerate(table)]  # fmt: skip
        return np.array(changed).flatten()
    return None


def slots_of_object(clip: Clip, kept: torch.Tensor) -> str:
    """In how many of its slots the object of the event, as it was before, still has a token."""
    if clip.event is None or clip.event.shape is None:
        return ""
    name, table = f"{clip.event.shape.colour} {clip.event.shape.name}", owners(clip)
    there = sum(name in row for row in table)
    left = {place // 36 for place in kept.tolist() if table[place // 36][place % 36] == name}
    return f"; {name} in {len(left)} of {there} slots"


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
    models = ModelCache()
    method = parse_method(arguments.method)
    found: list[tuple[str, bool, int, int, int]] = []  # group, right, tokens asked about, candidates, kept of them
    for exam in rendered_clips(arguments.clips, 32, arguments.seed):
        assert isinstance(exam, RenderedClip)
        tokens, items = exam.open("tiny", runtime=Runtime(device="cpu"), context=Context(models=models))
        clip = render_clip(exam.seed, "heldout", 32, exam.event)
        video = pipeline.compress_tokens(
            tokens, arguments.ratio, method, runtime=Runtime(device="cpu"), context=Context(models=models)
        )
        kept, entering = video.index, candidates(method, tokens, arguments.ratio)
        entering = kept if entering is None else entering
        conversation = pipeline.converse(video, runtime=Runtime(device="cpu"), context=Context(models=models))
        for kind, text, answer in items:
            about = asked_about(clip, kind, text)
            if about is None:
                continue
            given = conversation.ask(text, max_new_tokens=16).text
            counts = [int(about.sum()), int(about[entering.numpy()].sum()), int(about[kept.numpy()].sum())]
            group = next(group for group, kinds in GROUPS.items() if kind in kinds)
            found.append((group, same(given, answer or ""), *counts))
            if not found[-1][1]:
                about_it = f"Tokens {counts[0]}, candidates {counts[1]}, kept {counts[2]}{slots_of_object(clip, kept)}"
                print(f"{exam.name}: {text} {answer}; said {given}. {about_it}")
    print(f"\n{arguments.method} at {arguments.ratio}, {arguments.clips} clips, seed {arguments.seed}")
    print("Questions by how many of the tokens they are about were kept; in brackets those answered rightly")
    print(f"{'':8} {'tokens':>7} {'candidates':>10} {'kept':>6}   none kept      1 to 3          4 or more")
    for group in GROUPS:
        rows = [row for row in found if row[0] == group]
        middle = [statistics.median(row[i] for row in rows) for i in (2, 3, 4)]
        parts = [[row for row in rows if low <= row[4] <= high] for low, high in ((0, 0), (1, 3), (4, 10**9))]
        shown = [f"{len(part):4d} ({100 * np.mean([row[1] for row in part]) if part else 0:3.0f} %)" for part in parts]
        print(f"{group:8} {middle[0]:7.0f} {middle[1]:10.0f} {middle[2]:6.0f}   {'     '.join(shown)}")


if __name__ == "__main__":
    main()
