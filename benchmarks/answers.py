"""How much of the embedded model's answers survives compression, through the pipeline's own functions.

    python benchmarks/answers.py --clips 60 --select vanilla@1 st-simdiff@0.3 random@0.3

Every method sees the same held-out clips and questions; an answer is right if every word is. One JSON object: percent
right by kind of question, and over all questions. A first look, without intervals.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter

import numpy as np
import torch

from stsimdiff_cli import pipeline
from stsimdiff_cli.models.loading import open_family
from stsimdiff_cli.models.shelf import Shelf
from stsimdiff_cli.models.tiny.clips import make_clip
from stsimdiff_cli.models.tiny.questions import Question
from stsimdiff_cli.records import Source, TokenGrid, VideoTokens

DEFAULT = ["vanilla@1", "st-simdiff@0.3", "random@0.3", "uniform@0.3", "st-simdiff@0.1", "random@0.1", "uniform@0.1"]


def encode(shelf: Shelf, seed: int, frames: int) -> tuple[VideoTokens, list[Question]]:
    """The tokens of a held-out clip, straight from its pixels, and its questions."""
    clip = make_clip(seed, "heldout", frames)
    family, device = open_family("tiny"), torch.device("cpu")
    encoder = shelf.encoder(family, device, torch.float32)
    pixels = torch.from_numpy(clip.frames)
    features = torch.cat([encoder.encode(part)["features"] for part in pixels.split(8)])
    t, h, w, d = features.shape
    source = Source("rendered", 0, "", t / clip.fps, clip.fps, t, w, h, "none")
    seconds = tuple(i / clip.fps for i in range(t))
    grid = TokenGrid((t, h, w), d, seconds, family.layout, family.checkpoint.ref, source)
    rng = np.random.default_rng([0, seed])
    return VideoTokens(grid, features), [fact.ask(rng) for fact in clip.facts]


def main() -> None:
    """Ask and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--first", type=int, default=0, help="seed of the first clip")
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--select", nargs="+", default=DEFAULT, metavar="METHOD@RATIO")
    arguments = parser.parse_args()
    shelf = Shelf(keep=True)
    asked: Counter[str] = Counter()
    right: dict[str, Counter[str]] = {name: Counter() for name in arguments.select}
    for seed in range(arguments.first, arguments.first + arguments.clips):
        tokens, questions = encode(shelf, seed, arguments.frames)
        asked.update(question.kind for question in questions)
        for name in arguments.select:
            method, _, ratio = name.rpartition("@")
            video = pipeline.compress_tokens(tokens, ratio, method, device="cpu", shelf=shelf)
            conversation = pipeline.converse(video, device="cpu", shelf=shelf)
            for question in questions:
                answer = conversation.ask(question.text, max_new_tokens=12).text
                right[name][question.kind] += answer == question.answer
    percent = {
        name: {kind: round(100 * hits[kind] / asked[kind], 1) for kind in asked}
        | {"all": round(100 * sum(hits.values()) / sum(asked.values()), 1)}
        for name, hits in right.items()
    }
    print(json.dumps({"clips": arguments.clips, "first": arguments.first, "asked": asked, "percent_right": percent}))


if __name__ == "__main__":
    main()
