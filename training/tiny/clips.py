"""Clips for the language stage: which of them a step reads, how they are rendered and encoded."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from stsimdiff_cli.synthetic.choices import bodies_of
from stsimdiff_cli.synthetic.clips import make_clip
from stsimdiff_cli.synthetic.questions import Fact, sentence
from stsimdiff_cli.synthetic.world import Body

from .labels import fresh_news, label_clip
from .model import CELLS, TOKENS_PER_SECOND, encode, patches_of, working_type

MIXED = {
    **{"still": 0.1, "pan": 0.12, "shake": 0.1, "noise": 0.08, "background": 0.08, "crowd": 0.11},
    **{"occluders": 0.1, "slow": 0.1, "long": 0.07, "several": 0.14},
}
KINDS = {"flash": 0.17, "vanish": 0.18, "appear": 0.1, "recolour": 0.23, "move": 0.22, "cut": 0.1}


class Stage(NamedTuple):
    """Until which step; frames of the clips and rungs with their weights; shares of choices; which tokens drop.

    "same" drops tokens that resemble their past: what happens stays in sight, or the answer could not be known.
    """

    end: int
    lengths: dict[int, float]
    rungs: dict[str, float]
    choices: float
    drop: str  # none, same or any
    letters: float = 0.0  # of the choices


STAGES = (
    Stage(200, {1: 0.5, 2: 0.5}, {"still": 0.7, "crowd": 0.3}, 0.0, "none"),
    Stage(3600, {4: 0.3, 8: 0.5, 16: 0.2}, {"still": 0.7, "noise": 0.1, "pan": 0.1, "shake": 0.1}, 0.0, "same"),
    Stage(5800, {8: 0.1, 16: 0.3, 24: 0.25, 32: 0.35}, MIXED, 0.0, "any"),
    Stage(8000, {16: 0.2, 24: 0.15, 32: 0.35, 48: 0.15, 64: 0.15}, MIXED, 0.4, "any"),
    Stage(10**9, {16: 0.2, 24: 0.15, 32: 0.35, 48: 0.15, 64: 0.15}, MIXED, 0.65, "any", letters=0.5),
)


class Key(NamedTuple):
    """A clip of the training: stage, number of frames, running number."""

    stage: int
    frames: int
    number: int


@dataclass(frozen=True)
class Known:
    """What is known of a clip: news, fresh (T, 49), shift (T, 49, 2), and what can be asked.

    interval is the time between two frames in positions of the model.
    """

    rung: str
    news: Tensor
    fresh: Tensor
    shift: Tensor
    facts: list[Fact]
    bodies: list[Body]
    happened: list[str]
    interval: float


class Raw(NamedTuple):
    """A rendered clip: frames (T, 112, 112, 3) uint8, and what is known of it."""

    frames: Tensor
    known: Known


@dataclass(frozen=True)
class Example:
    """A clip as the language model sees it, without its frames: features (T, 49, 256) bfloat16, and change (T, 49).

    change of a token is one minus the cosine with the token of the same cell in the slot before, 0 in the first slot.
    """

    known: Known
    features: Tensor
    change: Tensor


def render(seed: int, rung: str, split: str, frames: int, kind: str | None = None, order: str = "forward") -> Raw:
    """Renders a clip and what the training wants to know about it."""
    clip = make_clip(seed, rung, split, frames, kind, order)
    labels = label_clip(clip)
    happened = [sentence(e) for e in clip.script.events if e.kind != "carry"]
    interval = TOKENS_PER_SECOND / clip.fps
    news, fresh, shift = (torch.as_tensor(v) for v in (labels.news, fresh_news(clip, labels.news), labels.shift))
    known = Known(rung, news, fresh, shift, clip.facts, bodies_of(clip), happened, interval)
    return Raw(torch.as_tensor(clip.frames), known)


def render_key(key: Key, seed: int) -> Raw:
    """The clip of a key."""
    rng = np.random.default_rng([seed, *key])
    weights = {r: w for r, w in STAGES[key.stage].rungs.items() if key.frames >= 24 or r not in ("long", "several")}
    rung = str(rng.choice(list(weights), p=np.array(list(weights.values())) / sum(weights.values())))
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    if rung == "several":
        kind = kind if kind in ("flash", "vanish", "recolour", "move") else "move"
    kind = "flash" if rung == "long" else "none" if key.frames == 1 else "appear" if key.frames == 2 else kind
    order = str(rng.choice(["forward", "reversed", "without"], p=[0.55, 0.35, 0.1]))
    number = ((seed * 10 + key.stage) * 200 + key.frames) * 10_000_000 + key.number
    return render(number, rung, "train", key.frames, kind, order)


def encode_clip(visual: Any, raw: Raw, device: torch.device) -> Example:
    """Encodes a clip."""
    with torch.no_grad():
        chunks = raw.frames.to(device).split(64)
        features = torch.cat([encode(visual, patches_of(c).to(working_type(device))) for c in chunks]).bfloat16()
    unit = F.normalize(features.float(), dim=-1)
    change = torch.zeros(len(features), CELLS, device=device)
    change[1:] = 1 - (unit[1:] * unit[:-1]).sum(-1)
    return Example(raw.known, features, change)


@dataclass(frozen=True)
class Plan:
    """What a step reads: clips of one length, which share of their tokens, how, and whether it asks choices.

    With `letters` hardly any tokens are read, and of many choices only the letter is learned.
    """

    keys: tuple[Key, ...]
    ratio: float
    structured: bool
    choices: bool
    letters: bool


class Plans:
    """The plan of every step, a function of its number alone: clips come from a window of running numbers that moves.

    A clip is read about `reuse` times, so that a slow renderer can feed the training; resuming finds the same window.
    In a window of 64 clips, each read six times, the model learned the answers by heart: after 600 steps it had three
    quarters of the questions about events right, and none about other clips.
    """

    WINDOW = 512

    def __init__(self, seed: int, budget: int, reuse: int) -> None:
        self.seed, self.budget, self.reuse = seed, budget, reuse

    def __call__(self, step: int) -> Plan:
        """The plan of a step."""
        rng = np.random.default_rng([self.seed, step, 7])
        number = next(i for i, stage in enumerate(STAGES) if step < stage.end)
        stage, begin = STAGES[number], STAGES[number - 1].end if number else 0
        frames = int(rng.choice(list(stage.lengths), p=list(stage.lengths.values())))
        choices = bool(rng.random() < stage.choices)
        letters = choices and bool(rng.random() < stage.letters)
        ratio, structured = 1.0, False
        if stage.drop == "same" and rng.random() < 0.5:
            structured, ratio = True, float(rng.uniform(0.25, 0.7))
        if stage.drop == "any" and rng.random() > (0.1 if frames > 8 else 0.5):
            structured = bool(rng.random() < 0.5)
            ratio = float(rng.uniform(0.08, 0.5) if structured else 0.15 + 0.75 * rng.random() ** 2)
        if letters:
            ratio, structured = 0.03, False
        length = ratio * frames * CELLS + (260 if choices else 250)
        count = 3 if letters else int(min(24, max(3, self.budget / length)))
        if self.reuse == 1:
            picks = step * 64 + np.arange(count)
        else:
            done = int((step - begin) * stage.lengths[frames] * 8 / self.reuse)
            picks = done + rng.choice(self.WINDOW, count, replace=False)
        return Plan(tuple(Key(number, frames, int(p)) for p in picks), ratio, structured, choices, letters)


class Steps(Dataset):
    """Item s is the plan of step s and the rendered clips if `ahead` (where other processes render)."""

    def __init__(self, plans: Plans, steps: int, ahead: bool) -> None:
        self.plans, self.steps, self.ahead = plans, steps, ahead

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> tuple[Plan, list[Raw]]:
        plan = self.plans(step)
        return plan, [render_key(key, self.plans.seed) for key in plan.keys] if self.ahead else []


class Shelf:
    """Encoded clips by key; the oldest go."""

    def __init__(self, seed: int, capacity: int = 3000) -> None:
        self.seed, self.capacity = seed, capacity
        self.known: OrderedDict[Key, Example] = OrderedDict()

    def get(self, visual: Any, key: Key, device: torch.device) -> Example:
        """The clip of a key, rendered and encoded if it is not there."""
        if key not in self.known:
            self.known[key] = encode_clip(visual, render_key(key, self.seed), device)
        self.known.move_to_end(key)
        while len(self.known) > self.capacity:
            self.known.popitem(last=False)
        return self.known[key]
