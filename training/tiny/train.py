"""Trains the embedded model from nothing, in stages, on one CPU thread.

    python -m training.tiny.train                         everything, in the folder tiny_training
    python -m training.tiny.train --stage language --resume
    python -m training.tiny.train --stage language --start FOLDER    the last lesson only, on a checkpoint

Stages: `vision` (vision.py) teaches the vision tower, `language` (language.py) the language model on its frozen
features, `export` writes the checkpoint.
The state after every hundred steps is kept in the working folder, so that --resume goes on where a run was stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from stsimdiff_cli.models.tiny import CHOICE as TARGET
from stsimdiff_cli.synthetic.choices import LAYOUTS
from stsimdiff_cli.synthetic.long_clips import MOST
from stsimdiff_cli.synthetic.questions import EVENTS

from .evaluate import accuracy, table
from .language import (
    CHOICE,
    FAST,
    SEGMENT,
    Batch,
    Example,
    Memory,
    answer_loss,
    choose_choices,
    choose_questions,
    keep_tokens,
    make_batch,
    make_example,
    read,
)
from .model import CELLS, export, make_model
from .tokenizer import vocabulary
from .vision import Heads, pictures, vision_loss


def learning_rate(step: int, steps: int, peak: float) -> float:
    """A warm-up of 100 steps, then a cosine to a twentieth of the peak."""
    if step < 100:
        return peak * (step + 1) / 100
    return peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0))))


def say(stage: str, step: int, began: float, shown: dict[str, float]) -> None:
    """One line of progress."""
    numbers = " ".join(f"{k} {v:.3f}" for k, v in shown.items())
    print(f"{stage} {step} {time.monotonic() - began:.0f}s {numbers}", flush=True)


def train_vision(work: Path, steps: int, resume: bool, seed: int = 1, batch: int = 64, peak: float = 1.5e-3) -> None:
    """Writes vision.pt: the weights of the whole network after the first stage."""
    model: Any = make_model()
    heads = Heads()
    words = model.get_input_embeddings().weight.detach()
    weights = [*model.model.visual.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=peak, betas=(0.9, 0.98), weight_decay=0.01)
    path, start = work / "vision.pt", 0
    if resume and path.exists():
        state = torch.load(path)
        model.load_state_dict(state["model"])
        heads.load_state_dict(state["heads"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    began = time.monotonic()
    mean: dict[str, float] = {}
    for step in range(start, steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak)
        loss, shown = vision_loss(
            model.model.visual, heads, words, *pictures(np.random.default_rng([seed, step]), batch)
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        shown["loss"] = float(loss.detach())
        mean = {k: 0.9 * mean.get(k, v) + 0.1 * v for k, v in shown.items()}
        if (step + 1) % 50 == 0:
            say("vision", step + 1, began, mean)
        if (step + 1) % 100 == 0 or step + 1 == steps:
            state = {"model": model.state_dict(), "heads": heads.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(state | {"step": step + 1}, path)


class Lesson(NamedTuple):
    """Until which step, frames of the clips with their weights, whether tokens are dropped.

    tales is the share of steps with clips of several events, choices that of steps with multiple choice; slow is the
    share of the other steps whose slots may be as far apart as in tales.
    """

    end: int
    lengths: dict[int, float]
    drop: bool
    tales: float = 0.0
    choices: float = 0.0
    slow: float = 0.0


LESSONS = (
    Lesson(250, {1: 1.0}, False),
    Lesson(700, {2: 0.2, 4: 0.25, 8: 0.3, 16: 0.25}, True),
    Lesson(3500, {8: 0.1, 16: 0.25, 32: 0.3, 48: 0.15, 64: 0.2}, True),
    Lesson(10**9, {8: 0.1, 16: 0.25, 32: 0.3, 48: 0.15, 64: 0.2}, True, 0.4, 0.5, 0.3),
)
TALES = {32: 0.25, 48: 0.25, 64: 0.5}  # frames of the tales with their weights
SPACED = (0.7, 30.0)  # positions a slot of tales: 64 frames of a clip of 6 seconds to 4 minutes
SHARES = (0.2, 0.12, 0.14, 0.42, 0.12)  # of EVENTS in the clips: what is harder to learn is shown more often
QUESTIONS, CHOICES = 7, 6  # for each clip of a batch
POOLED = 20_000  # frames of the clips that are kept for later steps, for each length
TESTED = {16: 12, 32: 24, 64: 12}  # frames and number of the clips that show how training goes


class Pool:
    """Encoded clips of one length; a step brings a few new ones and the oldest go."""

    def __init__(self, frames: int, tales: bool) -> None:
        self.frames, self.tales, self.capacity, self.made = frames, tales, POOLED // frames, 0
        self.examples: list[Example] = []

    def sample(self, visual: Any, seed: int, count: int, rng: np.random.Generator) -> list[Example]:
        """`count` clips of which about an eighth are new (all while the pool is small)."""
        fresh = count if len(self.examples) < 4 * count or self.frames == 1 else max(1, count // 8)
        for _ in range(fresh):
            event = str(rng.choice(EVENTS, p=SHARES)) if self.frames > 2 and not self.tales else None
            events = int(rng.integers(2, min(MOST, self.frames // 6) + 1)) if self.tales else 1
            example = make_example(visual, seed + self.made, "train", self.frames, event, events)
            self.examples.append(example)
            self.made += 1
        self.examples = self.examples[-self.capacity :]
        if fresh == count:
            return self.examples[-count:]
        return [self.examples[i] for i in rng.choice(len(self.examples), count, replace=False)]


def draw_batch(visual: Any, pools: dict[tuple[int, bool], Pool], step: int, seed: int, lesson: Lesson) -> Batch:
    """The batch of a step: a lesson's length of clips, one ratio and one spacing of time for all of them."""
    rng = np.random.default_rng([seed, step, 7])
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    tales, choices = rng.random() < lesson.tales, rng.random() < lesson.choices
    lengths = TALES if tales else lesson.lengths
    frames = int(rng.choice(list(lengths), p=list(lengths.values())))
    ratio, structured = 1.0, False
    if lesson.drop and rng.random() > (0.08 if frames > 8 else 0.5):
        structured = rng.random() < 0.6
        ratio = float(rng.uniform(0.06, 0.5) if structured else 0.15 + 0.75 * rng.random() ** 2)
    length = ratio * frames * CELLS + (CHOICES * CHOICE // 4 if choices else QUESTIONS * SEGMENT)
    count = int(min(20, max(3, 7_000 / (length * (1 + length / 1000)))))
    pool = pools.setdefault((frames, tales), Pool(frames, tales))
    examples = pool.sample(visual, 10_000_000 * frames + 500_000_000 * seed + 100 * step, count, rng)
    kept = [keep_tokens(e.change, ratio, structured, generator) for e in examples]
    interval = float(rng.choice([1.0] * 7 + [2.0, 1.4, 0.7]))
    if tales or rng.random() < lesson.slow:
        interval = float(np.exp(rng.uniform(*np.log(SPACED))))
    questions = []
    for e in examples:
        facts = [f for f in e.facts if f.kind != "when" or interval <= FAST]
        questions.append(choose_choices(rng, e, facts, CHOICES) if choices else choose_questions(rng, facts, QUESTIONS))
    return make_batch(examples, kept, questions, interval)


def begin_with(model: Any, folder: Path) -> dict[str, torch.Tensor]:
    """The weights of a checkpoint whose vocabulary may be an earlier, shorter one: later words keep the model's own."""
    weights = type(model).from_pretrained(folder, dtype=torch.float32).state_dict()
    known = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    if any(vocabulary().get(word) != i for word, i in known.items()):
        raise ValueError(f"{folder} has other words than this version")
    for key in ("model.language_model.embed_tokens.weight", "lm_head.weight"):
        weights[key] = torch.cat([weights[key][: len(known)], model.state_dict()[key][len(known) :]])
    return weights


def train_language(work: Path, steps: int, resume: bool, begin: Path | None, seed: int, peak: float) -> None:
    """Writes language.pt: all weights and their running mean, which is the model that is shipped.

    `begin` is the folder of a checkpoint whose weights are taken; then there is only the last lesson.
    """
    model: Any = make_model()
    path, start = work / "language.pt", 0
    if resume and path.exists():
        state = torch.load(path)
    elif begin is not None:
        state = {"model": begin_with(model, begin)}
    else:  # from the first stage: the tower and the word vectors it has learned to speak
        state = torch.load(work / "vision.pt")
        learned = ("visual", "embed_tokens")
        state["model"] = model.state_dict() | {
            k: v for k, v in state["model"].items() if any(part in k for part in learned)
        }
        state["model"]["lm_head.weight"] = state["model"]["model.language_model.embed_tokens.weight"]
    model.load_state_dict(state["model"])
    lm, memory = model.model.language_model, Memory()
    weights = [*lm.parameters(), *memory.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=peak, betas=(0.9, 0.98), weight_decay=0.02)
    mean_model: Any = make_model()
    mean_model.load_state_dict(state["mean"] if "mean" in state else model.state_dict())
    if "mean" in state:
        memory.load_state_dict(state["memory"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    pools: dict[tuple[int, bool], Pool] = {}
    visual = model.model.visual
    test = {n: [make_example(visual, s, "heldout", n) for s in range(count)] for n, count in TESTED.items()}
    tales = [make_example(visual, s, "heldout", 64, events=2 + s % 5) for s in range(12)]
    began = time.monotonic()
    mean: dict[str, float] = {}
    for step in range(start, steps):
        left = min(1.0, (steps - step) / (0.35 * steps))  # the last third goes down to a fiftieth
        for group in optimizer.param_groups:
            group["lr"] = peak * max(0.02, left) * min(1.0, (step + 1) / 100)
        lesson = LESSONS[-1] if begin else next(lesson for lesson in LESSONS if step < lesson.end)
        batch = draw_batch(visual, pools, step, seed, lesson)
        middle: list[torch.Tensor] = []
        loss, right = answer_loss(read(model, batch, middle=middle), batch.targets)
        hint = memory(middle, batch)
        optimizer.zero_grad()
        (loss + 0.5 * hint).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        with torch.no_grad():
            decay = min(0.998, (step + 1) / (step + 20))
            for a, b in zip(mean_model.model.language_model.parameters(), lm.parameters(), strict=True):
                a.lerp_(b, 1 - decay)
        shown = {"loss": float(loss.detach()), "right": float(right.float().mean()), "hint": float(hint.detach())}
        mean = {k: 0.95 * mean.get(k, v) + 0.05 * v for k, v in shown.items()}
        if (step + 1) % 50 == 0:
            say("language", step + 1, began, mean)
        if (step + 1) % 200 == 0 or step + 1 == steps:
            for frames, keep in [(n, 1.0) for n in TESTED] + [(32, 0.3)]:
                print(f"  {frames} frames, keep {keep}:", *table(accuracy(mean_model, test[frames], keep)), flush=True)
            if lesson.choices:
                for name, clips, spacing in (("choices", test[32], 1.0), ("tales", tales, 1.0), ("slow", tales, 15.0)):
                    for i, layout in enumerate(LAYOUTS):
                        tally = accuracy(mean_model, clips[i :: len(LAYOUTS)], layout=layout, interval=spacing)
                        print(f"  {name}, {layout}:", *table(tally), flush=True)
            state = {"model": model.state_dict(), "mean": mean_model.state_dict(), "memory": memory.state_dict()}
            state["optimizer"] = optimizer.state_dict()
            torch.save(state | {"step": step + 1}, work / "saving.pt")
            (work / "saving.pt").replace(path)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", choices=("all", "vision", "language", "export"), default="all")
    parser.add_argument("--work", type=Path, default=Path("tiny_training"), help="folder of states")
    parser.add_argument("--vision-steps", type=int, default=2200)
    parser.add_argument("--steps", type=int, default=6000, help="of the language model")
    parser.add_argument("--start", type=Path, help="folder of a checkpoint with which the language stage begins")
    parser.add_argument("--seed", type=int, default=2, help="of the language stage")
    parser.add_argument("--peak", type=float, default=1e-3, help="learning rate of the language stage")
    parser.add_argument("--out", type=Path, default=TARGET, help="folder of the exported checkpoint")
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    options.work.mkdir(parents=True, exist_ok=True)
    if options.stage in ("all", "vision"):
        train_vision(options.work, options.vision_steps, options.resume)
    if options.stage in ("all", "language"):
        train_language(options.work, options.steps, options.resume, options.start, options.seed, options.peak)
    if options.stage in ("all", "export"):
        model = make_model()
        model.load_state_dict(torch.load(options.work / "language.pt")["mean"])
        export(model, options.out)


if __name__ == "__main__":
    main()
