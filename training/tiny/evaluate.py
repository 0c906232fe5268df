"""Accuracy of an embedded model on held-out clips, by kind of question.

    python -m training.tiny.evaluate --clips 200 --seed 0 --keep 0.3

An answer is right if every word is. The last column is what the best constant answer would reach.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stsimdiff_cli.models.tiny import CHECKPOINT
from stsimdiff_cli.synthetic.benchmark_prompts import LAYOUTS
from stsimdiff_cli.synthetic.choices import ask_as_choice
from stsimdiff_cli.synthetic.questions import KINDS

from .batches import make_batch
from .examples import Example, keep_tokens, make_example
from .language import answer_loss, forward

Tally = dict[str, tuple[int, int, float]]  # kind -> right, asked, share of the most frequent answer


def accuracy(
    model: Any,
    examples: list[Example],
    keep: float = 1.0,
    changed_first: bool = False,
    seed: int = 0,
    dtype: torch.dtype = torch.bfloat16,
    layout: str = "plain",
    interval: float = 1.0,
) -> Tally:
    """Ask every question about every clip, with a random part of the tokens kept (or those first that changed).

    layout is "plain" or one of LAYOUTS; interval is in positions a slot.
    """
    right, asked, answers = Counter[str](), Counter[str](), defaultdict[str, Counter[str]](Counter)
    generator = torch.Generator().manual_seed(seed)
    for i, example in enumerate(examples):
        rng = np.random.default_rng([seed, i])
        questions = [fact.ask(rng) for fact in example.facts]
        if layout != "plain":
            questions = [ask_as_choice(rng, question, example.looks, layout) for question in questions]
        index = keep_tokens(example.change, keep, changed_first, generator)
        with torch.no_grad():
            batch = make_batch([example], [index], [questions], interval)
            correct = answer_loss(forward(model, batch, dtype), batch.targets)[1][0]
        for question, is_right in zip(questions, correct.tolist(), strict=True):
            right[question.kind] += is_right
            asked[question.kind] += 1
            answers[question.kind][question.answer] += 1
    return {k: (right[k], asked[k], max(answers[k].values()) / asked[k]) for k in KINDS if asked[k]}


def summary(tally: Tally) -> list[str]:
    """Percent right, one short text for each kind."""
    return [f"{kind} {100 * right / asked:.0f}" for kind, (right, asked, _) in tally.items()]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=200, help="number of clips")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the first clip; the others have the seeds after it"
    )
    parser.add_argument("--frames", type=int, default=32, help="frames of each clip")
    parser.add_argument("--keep", type=float, default=1.0, help="fraction of tokens kept, chosen at random")
    parser.add_argument("--changes-first", action="store_true", help="keep tokens that change over time first")
    parser.add_argument("--events", type=int, default=1, help="events in each clip, 1 to 6")
    parser.add_argument("--layout", choices=("plain", *LAYOUTS), default="plain", help="layout of the prompts")
    parser.add_argument("--interval", type=float, default=1.0, help="eighths of a second between two frames")
    parser.add_argument("--split", choices=("heldout", "train"), default="heldout")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="folder of the weights")
    options = parser.parse_args()
    from transformers import Qwen2_5_VLForConditionalGeneration

    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(options.checkpoint, dtype=torch.float32).eval()
    seeds = range(options.seed, options.seed + options.clips)
    examples = [
        make_example(model.model.visual, s, options.split, options.frames, events=options.events) for s in seeds
    ]
    tally = accuracy(
        model,
        examples,
        options.keep,
        options.changes_first,
        options.seed,
        layout=options.layout,
        interval=options.interval,
    )
    print(f"{options.clips} {options.split} clips of {options.frames} frames, seed {options.seed}, keep {options.keep}")
    print(f"{options.events} events a clip, {options.layout} prompts, interval {options.interval}")
    print(f"{'kind':10} {'right':>6} {'asked':>6} {'accuracy':>9} {'constant':>9}")
    for kind, (right, asked, constant) in tally.items():
        print(f"{kind:10} {right:6d} {asked:6d} {100 * right / asked:8.1f}% {100 * constant:8.1f}%")


if __name__ == "__main__":
    main()
