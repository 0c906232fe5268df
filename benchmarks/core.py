"""The cost of selecting tokens, beside a memory copy of the same tensor in the same process.

    python benchmarks/core.py [--slots 64] [--threads 2] [--repeats 5]

Makes tokens of the size of 64 LLaVA-Video frames (14 x 15 x 3584, bfloat16), with scenes that hold for a while, noise,
and a few objects that move; selects 30 % with `--importance centrality`; prints one JSON object: medians in seconds,
the spread, and the ratio to the copy.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from fractions import Fraction

import torch

from stsimdiff_cli.methods.base import parse_method
from stsimdiff_cli.records import Layout, ModelRef, Source, TokenGrid, VideoTokens
from stsimdiff_cli.timing import Stopwatch


def make_tokens(slots: int, rows: int = 14, columns: int = 15, width: int = 3584) -> VideoTokens:
    """Scenes of 16 slots; within one, a token is its scene's token plus noise, so that neighbours in time resemble."""
    generator = torch.Generator().manual_seed(0)
    features = torch.empty((slots, rows, columns, width), dtype=torch.bfloat16)
    for t in range(slots):
        if t % 16 == 0:
            scene = torch.randn((rows, columns, width), generator=generator)
        noise = torch.randn((rows, columns, width), generator=generator)
        features[t] = (scene + 0.4 * noise).bfloat16()
        features[t, 3:6, t % columns] = noise[3:6, 0].bfloat16()  # something passes by
    source = Source("synthetic", 0, "", 1.0, 1.0, slots, 1, 1, "none")
    model = ModelRef("none", "none", None, "")
    seconds = tuple(float(t) for t in range(slots))
    return VideoTokens(TokenGrid((slots, rows, columns), width, seconds, Layout(), model, source), features)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--save", metavar="FILE", help="also write the tokens file, to try the command on it")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    tokens = make_tokens(arguments.slots)
    if arguments.save:
        from stsimdiff_cli.store import save_tokens

        save_tokens(arguments.save, tokens)
    method = parse_method("st-simdiff", importance="centrality")
    target = torch.empty_like(tokens.features)
    target.copy_(tokens.features)
    copies, runs = [], []
    for repeat in range(arguments.repeats + 1):  # the first warms up
        start = time.perf_counter()
        target.copy_(tokens.features)
        copy = time.perf_counter() - start
        watch = Stopwatch()
        selection = method.select(tokens, Fraction(3, 10), None, watch.step)
        watch.stop()
        if repeat:
            copies.append(copy)
            runs.append({**watch.seconds, "core": watch.total()})
    copy = statistics.median(copies)
    steps = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    print(
        json.dumps(
            {
                "shape": list(tokens.features.shape),
                "threads": arguments.threads,
                "processor": platform.processor() or platform.machine(),
                "kept": len(selection.index),
                "copy_seconds": round(copy, 4),
                "seconds": {name: round(value, 4) for name, value in steps.items()},
                "core_spread_seconds": [round(f(run["core"] for run in runs), 4) for f in (min, max)],
                "core_to_copy": round(steps["core"] / copy, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
