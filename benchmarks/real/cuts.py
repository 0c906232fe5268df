"""Whether change and events find the cuts: of real clips, and of clips put together from them.

    python -m benchmarks.real.cuts [--joined 20] [--seed 0] [--cache build/real] [-o REPORT.json]

In real clips, a cut is where TransNetV2 finds one. A joined clip takes eight stretches of eight slots, each from one
shot and never two from the same clip in a row, so that it has seven cuts that are known. Three questions at each cut:

- how high the `change` of its slot ranks among all slots (graph.edges.change_signal);
- which share of its cells becomes event tokens (Eq. 6), for an absolute and for percentile thresholds;
- which share of its cells is kept at ratio 0.1, by those forms of st-simdiff (importance is chance) and by others.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from stsimdiff_cli.graph.edges import (
    Edges,
    change_signal,
    edge_weights,
    event_mask,
    percentile_threshold,
    weakest_edges,
)
from stsimdiff_cli.graph.numerics import stable_topk
from stsimdiff_cli.methods.spec import parse_method
from stsimdiff_cli.ratio import parse_ratio
from stsimdiff_cli.records import VideoTokens

from . import clips, features, shots
from .coverage import Chance

FORMAT = "stsimdiff.real-cuts/1"
RATIO = "0.1"
#: Thresholds of Eq. 6: the default, others, and the percentile form of 4.4.
THRESHOLDS = ("0.2", "0.5", "p90", "p95", "p99")
OTHERS = ("st-simdiff+", "evs", "vidcom2", "random", "uniform")
STRETCHES, LENGTH = 8, 8
JOINED, SEED = 20, 0


@dataclass(frozen=True)
class CutVideo:
    """The tokens of a video and the slots that begin a new shot."""

    name: str
    tokens: VideoTokens
    cuts: tuple[int, ...]


def slots_of(seconds: Iterable[float], tokens: VideoTokens) -> tuple[int, ...]:
    """The first slot of each new shot, given the seconds of its first frame; those after the last slot are left out."""
    times = tokens.grid.seconds
    first = (next((t for t, time in enumerate(times) if time >= cut - 1e-3), 0) for cut in seconds)
    return tuple(sorted(set(first) - {0}))


def stretches(videos: Iterable[CutVideo]) -> dict[str, list[tuple[int, int]]]:
    """For each clip, its shots that are long enough to take a stretch from, as first and last slot + 1."""
    found = {}
    for video in videos:
        edges = [0, *video.cuts, len(video.tokens.grid.seconds)]
        long = [(a, b) for a, b in pairwise(edges) if b - a >= LENGTH]
        if long:
            found[video.name] = long
    return found


def joined(videos: list[CutVideo], seed: int) -> CutVideo:
    """A clip of STRETCHES stretches, drawn so that neighbours are of different clips; its cuts are where they meet."""
    rng, pieces = random.Random(seed), stretches(videos)
    by_name, parts, before = {video.name: video for video in videos}, [], ""
    for _ in range(STRETCHES):
        before = rng.choice([name for name in pieces if name != before])
        first, end = rng.choice(pieces[before])
        begin = rng.randrange(first, end - LENGTH + 1)
        parts.append(by_name[before].tokens.features.tensor()[begin : begin + LENGTH])
    whole = torch.cat(parts)  # (T, H, W, D)
    slots, rows, columns, _ = whole.shape
    grid = replace(videos[0].tokens.grid, shape=(slots, rows, columns), seconds=tuple(map(float, range(slots))))
    cuts = tuple(range(LENGTH, len(whole), LENGTH))
    return CutVideo(f"joined-{seed}", VideoTokens.of(grid, {"features": whole}), cuts)


def threshold_of(edges: Edges, text: str) -> float:
    """The cosine below which a temporal edge makes an event: `0.2`, or `p95` of the differences."""
    return percentile_threshold(edges, float(text[1:])) if text.startswith("p") else float(text)


def look(video: CutVideo) -> dict[str, Any]:
    """Ranks, events and kept tokens of one video with cuts, as counts."""
    tokens, edges = video.tokens, edge_weights(video.tokens.features)
    slots, rows, columns = tokens.grid.shape
    change = change_signal(edges)
    order = stable_topk(change, slots).tolist()
    cut = torch.zeros(slots, dtype=torch.bool)
    cut[list(video.cuts)] = True
    events = {}
    for text in THRESHOLDS:
        mask = event_mask(weakest_edges(edges), threshold_of(edges, text))
        events[text] = {"all": int(mask.sum()), "at_cuts": int(mask[cut].sum())}
    methods = [f"st-simdiff:tau_diff={text}" for text in THRESHOLDS] + ["st-simdiff:events=off", *OTHERS]
    kept = {}
    for spec in methods:
        index = parse_method(spec).select(tokens, parse_ratio(RATIO), Chance(0), lambda _: None).index
        kept[spec] = int(cut[index // (rows * columns)].sum())
    return {
        "video": video.name,
        "slots": slots,
        "cells": rows * columns,
        "cuts": list(video.cuts),
        "ranks": [order.index(t) + 1 for t in video.cuts],
        "change_at_cuts": [round(float(change[t]), 4) for t in video.cuts],
        "change_elsewhere": round(float(change[1:][~cut[1:]].max()), 4),
        "events": events,
        "kept": kept,
    }


def measure(cache: Path, count: int, seed: int) -> dict[str, Any]:
    """The report: what `look` says of every real clip with a cut and of `count` joined clips."""
    found = features.features(cache)
    seconds = shots.cuts({name: path for name, path in clips.fetch(cache / "clips").items() if name in found}, cache)
    videos = [CutVideo(name, tokens.in_memory(), slots_of(seconds[name], tokens)) for name, tokens in found.items()]
    report: dict[str, Any] = {
        "format": FORMAT,
        "ratio": RATIO,
        "seed": seed,
        "seconds": seconds,
        "clips": [],
        "joined": [],
    }
    for video in videos:
        if video.cuts:
            report["clips"].append(look(video))
            print(json.dumps(report["clips"][-1]), flush=True)
    for number in range(count):
        report["joined"].append(look(joined(videos, seed + number)))
        print(json.dumps(report["joined"][-1]), flush=True)
    return report


def main() -> None:
    """Measure, print, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--joined", type=int, default=JOINED, metavar="COUNT")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--cache", type=Path, default=features.CACHE)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    with torch.inference_mode():
        report = measure(arguments.cache, arguments.joined, arguments.seed)
    if arguments.output:
        arguments.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
