"""Encoded clips, and the questions that a training step asks about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stsimdiff_cli.synthetic.benchmark_prompts import LAYOUTS
from stsimdiff_cli.synthetic.choices import Look, ask_as_choice, looks_of
from stsimdiff_cli.synthetic.clips import Clip, Fact, render_clip
from stsimdiff_cli.synthetic.long_clips import render_long_clip
from stsimdiff_cli.synthetic.questions import Question
from stsimdiff_cli.synthetic.shapes import SIDE, Scene, token_labels

from .vision_tower import CELLS, encode, patches_of


@dataclass(frozen=True)
class Example:
    """A clip as the language model sees it, and what can be asked about it.

    features (T, 36, 192) bfloat16.
    change (T, 36): one minus the cosine of each token with the one in the same cell of the slot before; 0 in the first.
    displacement (T, 36, 2): how far the shape under a token has moved since the first frame, in tenths of the picture.
    looks: colour and name of every shape.
    """

    features: Tensor
    change: Tensor
    displacement: Tensor
    facts: list[Fact]
    looks: tuple[Look, ...]


def make_example(visual: Any, seed: int, split: str, frames: int, event: str | None = None, events: int = 1) -> Example:
    """Render the clip of a seed, a long clip if `events` is above 1, and encode it."""
    clip = render_clip(seed, split, frames, event) if events == 1 else render_long_clip(seed, split, frames, events)
    with torch.no_grad():
        features = encode(visual, patches_of(clip.frames).bfloat16())
    unit = F.normalize(features.float(), dim=-1)
    change = torch.zeros(frames, CELLS)
    change[1:] = 1 - (unit[1:] * unit[:-1]).sum(-1)
    return Example(features, change, torch.as_tensor(displacements(clip)), clip.facts, looks_of(clip.scenes))


def displacements(clip: Clip) -> np.ndarray:
    """(T, 36, 2) float32: x and y of Example.displacement; 0 for tokens without a shape."""
    start = {(shape.colour, shape.name): (shape.x, shape.y) for shape in clip.scenes[0]}
    known: dict[Scene, np.ndarray] = {}
    for scene in clip.scenes:
        if scene not in known:
            moved = []
            for shape in scene:
                place = (shape.x, shape.y)
                moved.append(np.subtract(place, start.get((shape.colour, shape.name), place)) * 10 / SIDE)
            by_owner = np.array([*moved, (0, 0), (0, 0)], np.float32)  # the last two for owners -2 and -1
            known[scene] = by_owner[token_labels(scene)[0].flatten()]
    return np.stack([known[scene] for scene in clip.scenes])


def keep_tokens(change: Tensor, ratio: float, changed_first: bool, generator: torch.Generator) -> Tensor:
    """(M,) sorted positions of the tokens to keep, chosen at random; those that changed before others if asked."""
    score = torch.rand(change.numel(), generator=generator)
    if changed_first:
        score += 2.0 * (change.flatten() > 0.5)
    count = max(1, -int(-change.numel() * ratio // 1))
    return score.topk(min(count, change.numel())).indices.sort().values


def choose_questions(rng: np.random.Generator, facts: list[Fact], count: int) -> list[Question]:
    """`count` questions: those about events and the count, then colours and shapes, repeated if there are too few.

    Questions about events that do not take place are left out more often than not, so that the model does not learn to
    answer `nothing` to everything.
    """
    static = [fact for fact in facts if fact.kind in ("colour", "shape")]
    chosen = [fact for fact in facts if fact.kind not in ("colour", "shape", "nothing")]
    nothing = [fact for fact in facts if fact.kind == "nothing"]
    if nothing and rng.random() < 0.4:
        chosen.append(nothing[int(rng.integers(len(nothing)))])
    if len(chosen) > count:
        chosen = [chosen[i] for i in rng.permutation(len(chosen))]
    pool = [static[i] for i in rng.permutation(len(static))] or chosen
    while len(chosen) < count:
        chosen += pool
    return [fact.ask(rng) for fact in chosen[:count]]


def choose_choices(rng: np.random.Generator, example: Example, facts: list[Fact], count: int) -> list[Question]:
    """The same as multiple choice, each in a random layout."""
    questions = choose_questions(rng, facts, count)
    return [ask_as_choice(rng, question, example.looks, str(rng.choice(list(LAYOUTS)))) for question in questions]
