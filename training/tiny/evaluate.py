"""Accuracy on held-out clips of the ladder, by rung and by kind of question.

    python -m training.tiny.evaluate --state FOLDER/language.pt --clips 40 --frames 32 --keep 0.3
    python -m training.tiny.evaluate --checkpoint CHECKPOINT --clips 40 --layout videomme

An answer counts when every word is right in greedy decoding. Next to each kind stands what its best constant answer
would reach. `pairs` are questions asked with the same words about a clip and about the same frames backwards or the
clip without its events, where the answers differ: both must be right. With --layout each choice counts when it is
right for every rotation of its options.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stsimdiff_cli.synthetic.benchmark_prompts import LAYOUTS
from stsimdiff_cli.synthetic.choices import choose_among, rotations
from stsimdiff_cli.synthetic.clips import LEAST_FRAMES
from stsimdiff_cli.synthetic.questions import KINDS, Fact
from stsimdiff_cli.synthetic.rungs import RUNGS
from stsimdiff_cli.synthetic.script import EVENTS

from .clips import Example, encode_clip, render
from .language import Asked, answer_loss, keep_tokens, make_batch, read
from .model import make_model

Tally = dict[str, tuple[int, int, float]]  # kind -> right, asked, share of the most frequent answer


@dataclass
class Count:
    """Right and asked by kind, with the answers."""

    right: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    answers: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, kind: str, answer: str, right: bool) -> None:
        """One answer."""
        self.right[kind] += right
        self.asked[kind] += 1
        self.answers[kind][answer] += 1

    def tally(self) -> Tally:
        """Numbers by kind, in the order of KINDS."""
        kinds = [k for k in KINDS if self.asked[k]]
        return {k: (self.right[k], self.asked[k], max(self.answers[k].values()) / self.asked[k]) for k in kinds}


def answers_right(
    model: Any, example: Example, asked: list[Asked], keep: float, generator: torch.Generator, after: str
) -> list[bool]:
    """Whether greedy decoding gives each answer, from a random share of the tokens."""
    index = keep_tokens(example.change, keep, False, generator)
    with torch.no_grad():
        batch = make_batch([example], [index], [asked], after)
        return answer_loss(read(model, batch), batch.targets)[1][0].tolist()


def plainly(facts: list[Fact], rng: np.random.Generator) -> list[Asked]:
    """Facts as plain questions."""
    questions = [fact.ask(rng) for fact in facts]
    return [Asked(q.kind, q.text, q.answer) for q in questions]


def accuracy(
    model: Any, examples: list[Example], keep: float = 1.0, layout: str = "plain", seed: int = 0, after: str = "grid"
) -> Tally:
    """Asks everything about every clip."""
    count, generator = Count(), torch.Generator().manual_seed(seed)
    for i, example in enumerate(examples):
        rng = np.random.default_rng([seed, i])
        known = example.known
        if layout == "plain":
            asked = plainly(known.facts, rng)
            good = answers_right(model, example, asked, keep, generator, after)
        else:
            good, asked = [], plainly(known.facts, rng)
            for fact in known.facts:
                choice = choose_among(rng, fact, known.bodies, known.happened, LAYOUTS[layout].max_options)
                turned = [c.as_question(layout) for c in rotations(choice)]
                same = [Asked(fact.kind, q.text, q.answer) for q in turned]
                good.append(all(answers_right(model, example, same, keep, generator, after)))
        for question, ok in zip(asked, good, strict=True):
            count.add(question.kind, question.answer, ok)
    return count.tally()


def pair_accuracy(
    model: Any, twins: list[tuple[Example, Example]], keep: float = 1.0, seed: int = 0, after: str = "grid"
) -> Tally:
    """Questions whose answers differ between two clips: how many are right of both."""
    count, generator = Count(), torch.Generator().manual_seed(seed)
    for a, b in twins:
        ours, theirs = ({f.texts()[0]: f for f in e.known.facts} for e in (a, b))
        texts = [t for t in ours if t in theirs and ours[t].answer != theirs[t].answer]
        if not texts:
            continue
        good = []
        for example, facts in ((a, ours), (b, theirs)):
            asked = [Asked(facts[t].kind, t, facts[t].answer) for t in texts]
            good.append(answers_right(model, example, asked, keep, generator, after))
        for text, one, two in zip(texts, *good, strict=True):
            kind = ours[text].kind if ours[text].kind != "nothing" else theirs[text].kind
            count.add(kind, f"{ours[text].answer} / {theirs[text].answer}", one and two)
    return count.tally()


def total(tally: Tally) -> float:
    """Percent right of all questions, NaN without any."""
    asked = sum(n for _, n, _ in tally.values())
    return 100 * sum(r for r, _, _ in tally.values()) / asked if asked else float("nan")


def spread_kinds(rung: str, index: int) -> str | None:
    """Kinds of event in turn, so that few clips hold them all."""
    return None if rung in ("several", "long") else EVENTS[index % len(EVENTS)]


def load_state(path: Path) -> Any:
    """The model of a state of the language stage (its running mean) or of the vision stage."""
    model = make_model()
    state = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state.get("mean", state["model"]))
    return model.eval()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, help="language.pt of the working folder")
    parser.add_argument("--checkpoint", type=Path, help="or an exported checkpoint")
    parser.add_argument("--clips", type=int, default=24, help="of each rung")
    parser.add_argument("--seed", type=int, default=0, help="of the first clip; the others follow")
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--keep", type=float, default=1.0, help="fraction of tokens kept, chosen at random")
    parser.add_argument("--layout", choices=("plain", *LAYOUTS), default="plain")
    parser.add_argument("--after", choices=("grid", "time", "jump"), default="grid", help="where text goes on")
    parser.add_argument("--split", choices=("heldout", "train"), default="heldout")
    parser.add_argument("--rung", choices=RUNGS, action="append", help="only these")
    parser.add_argument("--pairs", action="store_true", help="also score pairs of clips")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    if options.checkpoint is not None:
        from transformers import Qwen2_5_VLForConditionalGeneration

        model: Any = Qwen2_5_VLForConditionalGeneration.from_pretrained(options.checkpoint, dtype=torch.float32).eval()
    else:
        model = load_state(options.state)
    model.to(device)
    print(f"{options.clips} {options.split} clips a rung of {options.frames} frames, seeds from {options.seed},")
    print(f"keep {options.keep}, {options.layout} prompts, text after {options.after}")
    for rung in options.rung or (r for r in RUNGS if options.frames >= LEAST_FRAMES.get(r, 1)):
        seeds = range(options.seed, options.seed + options.clips)

        def clips(order: str, rung: str = rung, seeds: range = seeds) -> list[Example]:
            raws = (
                render(s, rung, options.split, options.frames, spread_kinds(rung, i), order)
                for i, s in enumerate(seeds)
            )
            return [encode_clip(model.model.visual, raw, device) for raw in raws]

        examples = clips("forward")
        tally = accuracy(model, examples, options.keep, options.layout, options.seed, options.after)
        print(f"\n{rung:12} {total(tally):5.1f}%")
        for kind, (right, asked, constant) in tally.items():
            print(f"  {kind:10} {right:6d} {asked:6d} {100 * right / asked:8.1f}% {100 * constant:8.1f}%")
        if options.pairs:
            for order in ("reversed", "without"):
                pairs = list(zip(examples, clips(order), strict=True))
                tally = pair_accuracy(model, pairs, options.keep, options.seed, options.after)
                print(f"  pairs with {order}: {total(tally):5.1f}% of {sum(n for _, n, _ in tally.values())}")


if __name__ == "__main__":
    main()
