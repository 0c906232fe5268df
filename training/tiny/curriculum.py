"""What the language stage learns when: lengths of clips, dropped tokens, several events, multiple choice."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from stsimdiff_cli.synthetic.long_clips import MAX_EVENTS
from stsimdiff_cli.synthetic.questions import EVENTS

from .batches import CHOICE_LENGTH, QUESTION_LENGTH, Batch, make_batch
from .examples import Example, choose_choices, choose_questions, keep_tokens, make_example
from .hints import FAST
from .vision_tower import CELLS


class Phase(NamedTuple):
    """A part of the language stage, up to a step.

    lengths: numbers of frames of the clips, with their probabilities. drop: whether tokens are dropped.
    long_clips: probability that a step shows clips of several events. choices: that it asks multiple choice.
    slow: probability that the slots of a step's clips are as far apart as those of long clips.
    """

    end: int
    lengths: dict[int, float]
    drop: bool
    long_clips: float = 0.0
    choices: float = 0.0
    slow: float = 0.0


CURRICULUM = (
    Phase(250, {1: 1.0}, False),
    Phase(700, {2: 0.2, 4: 0.25, 8: 0.3, 16: 0.25}, True),
    Phase(3500, {8: 0.1, 16: 0.25, 32: 0.3, 48: 0.15, 64: 0.2}, True),
    Phase(10**9, {8: 0.1, 16: 0.25, 32: 0.3, 48: 0.15, 64: 0.2}, True, 0.4, 0.5, 0.3),
)
LONG_LENGTHS = {32: 0.25, 48: 0.25, 64: 0.5}  # as lengths, of long clips
INTERVALS = (0.7, 30.0)  # positions a slot of long clips: 64 frames of a clip of 6 seconds to 4 minutes
EVENT_SHARES = (0.2, 0.12, 0.14, 0.42, 0.12)  # of EVENTS in the clips: what is harder to learn is shown more often
QUESTIONS, CHOICES = 7, 6  # for each clip of a batch
POOL_FRAMES = 20_000  # frames of the clips that are kept for later steps, for each length


class Pool:
    """Encoded clips of one length. Each step adds a few new ones, and the oldest are dropped."""

    def __init__(self, frames: int, long_clips: bool) -> None:
        self.frames, self.long_clips = frames, long_clips
        self.capacity, self.rendered = POOL_FRAMES // frames, 0
        self.examples: list[Example] = []

    def sample(self, visual: Any, seed: int, count: int, rng: np.random.Generator) -> list[Example]:
        """`count` clips of which about an eighth are new (all while the pool is small)."""
        new = count if len(self.examples) < 4 * count or self.frames == 1 else max(1, count // 8)
        for _ in range(new):
            event = str(rng.choice(EVENTS, p=EVENT_SHARES)) if self.frames > 2 and not self.long_clips else None
            events = int(rng.integers(2, min(MAX_EVENTS, self.frames // 6) + 1)) if self.long_clips else 1
            self.examples.append(make_example(visual, seed + self.rendered, "train", self.frames, event, events))
            self.rendered += 1
        self.examples = self.examples[-self.capacity :]
        if new == count:
            return self.examples[-count:]
        return [self.examples[i] for i in rng.choice(len(self.examples), count, replace=False)]


Pools = dict[tuple[int, bool], Pool]  # by number of frames, and whether the clips are long ones


def sample_batch(visual: Any, pools: Pools, step: int, seed: int, phase: Phase) -> Batch:
    """The batch of a step: clips of one length, with one ratio and one interval for all of them."""
    rng = np.random.default_rng([seed, step, 7])
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    long_clips, choices = rng.random() < phase.long_clips, rng.random() < phase.choices
    lengths = LONG_LENGTHS if long_clips else phase.lengths
    frames = int(rng.choice(list(lengths), p=list(lengths.values())))
    ratio, changed_first = 1.0, False
    if phase.drop and rng.random() > (0.08 if frames > 8 else 0.5):
        changed_first = rng.random() < 0.6
        ratio = float(rng.uniform(0.06, 0.5) if changed_first else 0.15 + 0.75 * rng.random() ** 2)
    text = CHOICES * CHOICE_LENGTH // 4 if choices else QUESTIONS * QUESTION_LENGTH
    tokens = ratio * frames * CELLS + text
    count = int(min(20, max(3, 7_000 / (tokens * (1 + tokens / 1000)))))
    pool = pools.setdefault((frames, long_clips), Pool(frames, long_clips))
    examples = pool.sample(visual, 10_000_000 * frames + 500_000_000 * seed + 100 * step, count, rng)
    kept = [keep_tokens(e.change, ratio, changed_first, generator) for e in examples]
    interval = float(rng.choice([1.0] * 7 + [2.0, 1.4, 0.7]))
    if long_clips or rng.random() < phase.slow:
        interval = float(np.exp(rng.uniform(*np.log(INTERVALS))))
    questions = []
    for e in examples:
        facts = [fact for fact in e.facts if fact.kind != "when" or interval <= FAST]
        questions.append(choose_choices(rng, e, facts, CHOICES) if choices else choose_questions(rng, facts, QUESTIONS))
    return make_batch(examples, kept, questions, interval)
