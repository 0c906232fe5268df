"""The cost of selecting tokens, compared with a memory copy of the same tensor in the same process.

    python benchmarks/core.py [--method st-simdiff:importance=centrality ...] [--video scenes noise still]
                              [--max-community sqrt none] [--kernels plain] [--slots 64] [--threads 2] [--repeats 9]
                              [--device cuda]

Makes tokens of the size of 64 LLaVA-Video frames (14 x 15 x 3584, bfloat16) and selects 30 % with a form of ST-SimDiff
that needs no evidence; copies and selections take turns. Prints one JSON object for each video, method and limit:
seconds of the copy and of every step, as minimum, median and maximum, and the ratios of minima and medians to those of
the copy. In `noise` nearly every token is alone in its community; `still` is one component that holds everything.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import platform
import statistics
import time

import torch

from stsimdiff_cli.methods.base import Method
from stsimdiff_cli.methods.spec import parse_method
from stsimdiff_cli.ratio import parse_ratio
from stsimdiff_cli.records import Layout, ModelRef, Source, TokenGrid, VideoTokens
from stsimdiff_cli.timing import Stopwatch
from stsimdiff_cli.token_features import DenseFeatures

METHOD = "st-simdiff:importance=centrality"
VIDEOS = ("scenes", "noise", "still")
#: Seconds between a copy and a selection: the threads of one spin for some milliseconds before they sleep.
REST = 0.02


def make_tokens(slots: int, video: str = "scenes", rows: int = 14, columns: int = 15, width: int = 3584) -> VideoTokens:
    """Tokens of a video: scenes of 16 slots with noise and something that passes by; noise; or a still picture."""
    generator = torch.Generator().manual_seed(0)
    features = torch.empty((slots, rows, columns, width), dtype=torch.bfloat16)
    one = torch.randn(width, generator=generator)
    for t in range(slots):
        noise = torch.randn((rows, columns, width), generator=generator)
        if video == "noise":
            features[t] = noise.bfloat16()
        elif video == "still":
            features[t] = (one + 0.2 * noise).bfloat16()
        else:
            if t % 16 == 0:
                scene = torch.randn((rows, columns, width), generator=generator)
            features[t] = (scene + 0.4 * noise).bfloat16()
            features[t, 3:6, t % columns] = noise[3:6, 0].bfloat16()
    source = Source("synthetic", 0, "", 1.0, 1.0, slots, 1, 1, "none")
    model = ModelRef("none", "none", None, "")
    seconds = tuple(float(t) for t in range(slots))
    return VideoTokens(
        TokenGrid((slots, rows, columns), width, seconds, Layout(), model, source), DenseFeatures(features)
    )


def measure(tokens: VideoTokens, method: Method, repeats: int) -> dict:
    """Copies and selections in turn; the first of each does not count."""
    target = torch.empty_like(tokens.features.tensor())
    runs = []
    for repeat in range(repeats + 1):
        start = time.perf_counter()
        target.copy_(tokens.features.tensor())
        if target.is_cuda:
            torch.cuda.synchronize()
        copy = time.perf_counter() - start
        time.sleep(REST)
        timer = Stopwatch(str(target.device))
        selection = method.select(tokens, parse_ratio("0.3"), None, timer.step)
        timer.stop()
        if repeat:
            runs.append({"copy": copy, **timer.seconds, "all": timer.total()})
    spread = {name: sorted(run[name] for run in runs) for name in runs[0]}
    middle = {name: statistics.median(values) for name, values in spread.items()}
    return {
        "kept": len(selection.index),
        "communities": selection.counts["communities"],
        "largest_community": selection.counts["largest_community"],
        "seconds": {name: [round(x, 4) for x in (v[0], middle[name], v[-1])] for name, v in spread.items()},
        "minimum_to_copy": {name: round(v[0] / spread["copy"][0], 1) for name, v in spread.items()},
        "median_to_copy": {name: round(value / middle["copy"], 1) for name, value in middle.items()},
    }


def processor(device: torch.device) -> str:
    """The name of the processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--method", nargs="+", default=[METHOD], help="forms of st-simdiff, or st-simdiff+")
    parser.add_argument("--video", nargs="+", choices=VIDEOS, default=VIDEOS)
    parser.add_argument("--max-community", nargs="+", choices=("sqrt", "none"), default=("sqrt", "none"))
    parser.add_argument("--kernels", choices=("plain", "compiled", "fused"), help="instead of the library's choice")
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--save", metavar="FILE", help="also write the first tokens file, to try the command on it")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.kernels:
        form = importlib.import_module(f"stsimdiff_cli.graph.kernels.{arguments.kernels}")
        importlib.import_module("stsimdiff_cli.graph.kernels").choose = lambda *_: form
    for number, video in enumerate(arguments.video):
        tokens = make_tokens(arguments.slots, video)
        placed = tokens.to(arguments.device)
        if arguments.save and not number:
            from stsimdiff_cli.storage.writing import save_tokens

            save_tokens(arguments.save, tokens)
        for spec, limit in itertools.product(arguments.method, arguments.max_community):
            head = {
                "video": video,
                "method": spec,
                "max_community": limit,
                "shape": list(tokens.features.shape),
                "threads": arguments.threads,
                "processor": processor(arguments.device),
            }
            print(
                json.dumps(head | measure(placed, parse_method(spec, max_community=limit), arguments.repeats)),
                flush=True,
            )


if __name__ == "__main__":
    main()
