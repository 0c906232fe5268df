"""Selecting tokens of videos that are larger than memory: time and memory against length.

    python benchmarks/stream.py [--slots 32,128,512,2048,10000] [--ratio 0.1] [--folder FOLDER] [--repeats 3]
                                [--compiled]

For every length a tokens file is laid out and written slot by slot (14 x 14 tokens of width 3584 in bfloat16, 1.4 MB a
slot: scenes that hold for 16 slots, noise, something that passes by), then `stsimdiff compress --importance
centrality` selects from it in a process of its own. Up to 512 slots the same is done with all tokens in memory, and
the two files must be byte for byte the same. Prints a JSON line for each length (seconds, in all and per token, the
peak resident memory of the process, and how much of it Python and its libraries take) and a Markdown table.
Each tokens file is deleted when its length is done, so FOLDER needs room for the longest: 14 GB for 10,000 slots.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from stsimdiff_cli.graph.kernels import WORTH_LOADING
from stsimdiff_cli.machine import describe
from stsimdiff_cli.records import Layout, ModelRef, Source, TokenGrid
from stsimdiff_cli.storage.sinks import open_sink

SIDE, WIDTH, SCENE = 14, 3584, 16
COMPARED = 512  # slots up to which all tokens are also taken into memory

#: The program of a process that selects. Its arguments are the tokens file, the output, the ratio, "stay" or "memory",
#: and how many numbers make the compiled loops worth loading.
CHILD = """
import json, pathlib, resource, sys
from dataclasses import replace
from stsimdiff_cli import pipeline
from stsimdiff_cli.graph import kernels
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.records import VideoTokens
from stsimdiff_cli.storage.reading import StoredVideo
from stsimdiff_cli.storage.writing import save_compressed
from stsimdiff_cli.timing import Stopwatch, selection_seconds
from stsimdiff_cli.token_features import DenseFeatures
path, output, ratio, stay, worth = sys.argv[1:]
kernels.WORTH_LOADING = int(worth)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
select = lambda tokens, timer: pipeline.compress_tokens(
    tokens, ratio, "st-simdiff:importance=centrality", Runtime(device="cpu"), context=pipeline.Context(timer=timer))
stored = StoredVideo(pathlib.Path(path))
# warm up
few = replace(stored.grid, shape=(8, *stored.grid.shape[1:]), seconds=stored.grid.seconds[:8])
select(VideoTokens(few, DenseFeatures(next(stored.tokens(in_memory=False).features.chunks(8))[1])), Stopwatch())
before, timer = peak(), Stopwatch()
timer.step("read")
video = select(stored.tokens(in_memory=stay != "stay"), timer)
with timer.during("write"):
    save_compressed(output, video)
print(json.dumps({"seconds": timer.total(), "core": selection_seconds(timer.seconds), "peak": peak(), "before": before,
                  "steps": timer.seconds, "kept": len(video.index), "communities": video.counts["communities"]}))
"""


def write_tokens(path: Path, slots: int) -> None:
    """A tokens file of that many slots, written slot by slot."""
    seconds = tuple(float(t) for t in range(slots))
    source = Source("synthetic", 0, "", float(slots), 1.0, slots, 1, 1, "none")
    grid = TokenGrid((slots, SIDE, SIDE), WIDTH, seconds, Layout(), ModelRef("none", "none", None, ""), source)
    chance = torch.Generator().manual_seed(0)
    first = torch.empty((1, SIDE, SIDE, WIDTH), dtype=torch.bfloat16)
    with open_sink(path) as growing:
        growing.begin(grid, slots, {"features": first})
        for t in range(slots):
            if t % SCENE == 0:
                scene = torch.randn((1, SIDE, SIDE, WIDTH), generator=chance)
                pool = torch.randn(
                    (4, SIDE, SIDE, WIDTH), generator=chance
                )  # noise is drawn once a scene, to save time
            slot = scene + 0.4 * pool[t % 4]
            slot[0, 3:6, t % SIDE] = pool[(t + 1) % 4, 3:6, 0]
            growing.append({"features": slot.bfloat16()})
        growing.finish(grid)


def measure(path: Path, output: Path, ratio: str, how: str, worth: int) -> dict:
    """One selection in a process of its own."""
    command = [sys.executable, "-c", CHILD, path, output, ratio, how, str(worth)]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        sys.exit(run.stderr)
    return json.loads(run.stdout)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--slots", default="32,128,512,2048,10000")
    parser.add_argument("--ratio", default="0.1")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--compiled", action="store_true", help="compiled loops whatever the length (needs numba)")
    arguments = parser.parse_args()
    rows, worth = [], 0 if arguments.compiled else WORTH_LOADING
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path, output, other = (Path(folder) / name for name in ("tokens", "kept", "other"))
        for slots in map(int, arguments.slots.split(",")):
            write_tokens(path, slots)
            runs = [measure(path, output, arguments.ratio, "stay", worth) for _ in range(arguments.repeats)]
            row = {
                "slots": slots,
                "file_bytes": path.stat().st_size,
                **{key: statistics.median(one[key] for one in runs) for key in ("seconds", "core", "peak", "before")},
                "spread": [min(one["core"] for one in runs), max(one["core"] for one in runs)],
                "microseconds_a_token": statistics.median(one["core"] for one in runs) / (slots * SIDE**2) * 1e6,
                "kept": runs[0]["kept"],
                "communities": runs[0]["communities"],
                "steps": runs[0]["steps"],
            }
            if slots <= COMPARED:
                whole = measure(path, other, arguments.ratio, "memory", worth)
                row |= {"peak_in_memory": whole["peak"], "equal": output.read_bytes() == other.read_bytes()}
            path.unlink()
            rows.append(row)
            print(json.dumps(row), flush=True)
    print(json.dumps({"machine": describe(), "threads": torch.get_num_threads()}))
    print("| slots | file, GB | selection, s | us a token | peak, MB | all in memory, MB | same bytes |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        memory = f"{row['peak_in_memory'] / 1e6:.0f}" if "equal" in row else ""
        same = {True: "yes", False: "NO", None: ""}[row.get("equal")]
        print(
            f"| {row['slots']} | {row['file_bytes'] / 1e9:.2f} | {row['core']:.2f} | {row['microseconds_a_token']:.2f} "
            f"| {row['peak'] / 1e6:.0f} | {memory} | {same} |"
        )


if __name__ == "__main__":
    main()
