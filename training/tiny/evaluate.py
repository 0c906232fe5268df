"""Accuracy of the embedded model on held-out clips, by kind of question.

    python -m training.tiny.evaluate --clips 200 --seed 0 --keep 0.3

An answer counts when every word is right. Beside each kind stands what the best constant answer would reach.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stsimdiff_cli.models.tiny import CHECKPOINT
from stsimdiff_cli.synthetic.choices import LAYOUTS, ask_in
from stsimdiff_cli.synthetic.questions import KINDS

from .language import Example, answer_loss, keep_tokens, make_batch, make_example, read

Tally = dict[str, tuple[int, int, float]]  # kind -> right, asked, share of the most frequent answer


def accuracy(
    model: Any,
    examples: list[Example],
    keep: float = 1.0,
    structured: bool = False,
    seed: int = 0,
    dtype: torch.dtype = torch.bfloat16,
    layout: str = "plain",
    interval: float = 1.0,
) -> Tally:
    """Asks every question of every clip with a random part of the tokens kept (or changed tokens first).

    layout is "plain" or one of LAYOUTS; interval is in positions a slot.
    """
    right, asked, answers = Counter[str](), Counter[str](), defaultdict[str, Counter[str]](Counter)
    generator = torch.Generator().manual_seed(seed)
    for i, example in enumerate(examples):
        rng = np.random.default_rng([seed, i])
        questions = [fact.ask(rng) for fact in example.facts]
        if layout != "plain":
            questions = [ask_in(rng, question, example.seen, layout) for question in questions]
        index = keep_tokens(example.change, keep, structured, generator)
        with torch.no_grad():
            batch = make_batch([example], [index], [questions], interval)
            good = answer_loss(read(model, batch, dtype), batch.targets)[1][0]
        for question, ok in zip(questions, good.tolist(), strict=True):
            right[question.kind] += ok
            asked[question.kind] += 1
            answers[question.kind][question.answer] += 1
    return {k: (right[k], asked[k], max(answers[k].values()) / asked[k]) for k in KINDS if asked[k]}


def table(tally: Tally) -> list[str]:
    """One short text a kind."""
    return [f"{kind} {100 * right / asked:.0f}" for kind, (right, asked, _) in tally.items()]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="seed of the first clip; the others follow")
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--keep", type=float, default=1.0, help="fraction of tokens kept, chosen at random")
    parser.add_argument("--changes-first", action="store_true", help="keep tokens that change over time before others")
    parser.add_argument("--events", type=int, default=1, help="of each clip; 2 to 6 make it a tale")
    parser.add_argument("--layout", choices=("plain", *LAYOUTS), default="plain", help="of the prompt")
    parser.add_argument("--interval", type=float, default=1.0, help="between two frames, in eighths of a second")
    parser.add_argument("--split", choices=("heldout", "train"), default="heldout")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
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
