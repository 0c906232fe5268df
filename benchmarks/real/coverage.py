"""How well the kept tokens of a method stand for all tokens of real clips.

    python -m benchmarks.real.coverage [--methods LIST] [--ratios 0.05,0.1,0.3] [--draws 1] [--cache build/real]
                                       [--clips NAME ...] [-o REPORT.json]

For each token, the largest cosine to a kept one: its mean over all tokens of a clip, and its 5th percentile, which says
what becomes of those that are covered worst. Every method that can do without an LLM is measured. There is no attention
here, so where a method asks for it (the LLM's importance, the vision encoder's saliency) it gets chance; keys are the
features themselves. What depends on chance is the mean of several draws. `coverage` is the same for one choice:

    from benchmarks.real.coverage import coverage
    mean, fifth = coverage(features, index)
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.nn import functional as F

from stsimdiff_cli.evaluation.fidelity import best_cosines
from stsimdiff_cli.graph.communities import communities
from stsimdiff_cli.graph.edges import edge_weights, event_mask, strong_edges, weakest_edges
from stsimdiff_cli.methods.base import Method
from stsimdiff_cli.methods.random import Random
from stsimdiff_cli.methods.spec import parse_method, split_methods
from stsimdiff_cli.ratio import Ratio, parse_ratio
from stsimdiff_cli.records import VideoTokens
from stsimdiff_cli.token_features import DenseFeatures

from . import features
from .clips import CLIPS

FORMAT = "stsimdiff.real-coverage/1"
METHODS = (
    "st-simdiff, st-simdiff:importance=centrality, st-simdiff+, vidcom2, evs, fastervlm, prumerge, prumerge+,"
    " visionzip, vispruner, flashvid, fastvid, floc, downsample, random, uniform"
)
RATIOS = "0.05,0.1,0.3"
DRAWS = 1  # with 627 tokens and more, draws hardly differ in their mean
#: Where the communities of a clip are looked at: the method's default (4.3), and its default for events (4.4).
TAU_SIM, TAU_DIFF = 0.8, 0.2


class Chance:
    """In the place of the LLM: importance is drawn."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def importance(self, index: Tensor, layer: int) -> Tensor:  # noqa: ARG002
        """(C,) float32, uniform."""
        return torch.rand(len(index), generator=self.generator)

    def prefill(self, pruner: Any) -> NoReturn:  # noqa: ARG002
        """There are no layers."""
        raise ValueError("expected a method that works on tokens, got one that prunes between the layers of an LLM")


def coverage(features: Tensor, index: Tensor) -> tuple[float, float]:
    """Mean and 5th percentile, over all tokens of `features` (T, H, W, D), of the best cosine to a token at `index`.

    `index` (M,) holds flat positions. Compared in float32.
    """
    return _summary(best_cosines(features, features.flatten(0, 2)[index]))


def _summary(best: Tensor) -> tuple[float, float]:
    """Mean and 5th percentile of the best cosines (N,)."""
    return float(best.mean()), float(torch.quantile(best, 0.05))


def with_chance(tokens: VideoTokens, seed: int) -> VideoTokens:
    """The same tokens with evidence: a drawn saliency (T, H, W), and the features as keys (T, H, W, 1, D)."""
    generator = torch.Generator().manual_seed(seed)
    saliency = DenseFeatures(torch.rand(tokens.grid.shape, generator=generator))
    keys = DenseFeatures(tokens.features.tensor().unsqueeze(3))
    return VideoTokens(tokens.grid, tokens.features, {"saliency": saliency, "keys": keys})


def drawn(method: Method, draws: int) -> Iterator[tuple[int, Method]]:
    """A method once for each draw, with the draw's seed; once if chance has no part in it."""
    for seed in range(draws if method.needs or isinstance(method, Random) else 1):
        yield seed, replace(method, seed=seed) if isinstance(method, Random) else method


class Measured:
    """The tokens of a clip, and the cosine of every pair of them: N^2 numbers, computed once for all methods."""

    def __init__(self, tokens: VideoTokens) -> None:
        self.tokens = tokens.in_memory()
        unit = F.normalize(self.tokens.features.tensor().flatten(0, 2).float(), dim=-1)  # (N, D)
        self.cosines = unit @ unit.T  # (N, N)

    def coverage(self, method: Method, ratio: Ratio, seed: int) -> tuple[float, float]:
        """Mean and 5th percentile of the best cosine to a kept token, merged ones as they are after it."""
        chosen = method.select(with_chance(self.tokens, seed), ratio, Chance(seed), lambda _: None)
        if chosen.features is not None:
            return _summary(best_cosines(self.tokens.features.tensor(), chosen.features))
        return _summary(self.cosines[chosen.index].amax(0).clamp(-1, 1))

    def graph(self) -> dict[str, Any]:
        """What the paper's graph is on this clip, in shares of all tokens or edges."""
        edges, n = edge_weights(self.tokens.features), self.tokens.grid.tokens
        size = torch.bincount(communities(*strong_edges(edges, TAU_SIM), n))
        later = edges.later.flatten()
        return {
            "components": len(size),
            "largest_component": float(size.max()) / n,
            "alone": float((size == 1).sum()) / n,
            "temporal_cosine": [round(float(torch.quantile(later, q)), 4) for q in (0.05, 0.5, 0.95)],
            "events": int(event_mask(weakest_edges(edges), TAU_DIFF).sum()),
        }


def measure(found: dict[str, VideoTokens], specs: list[str], ratios: list[Ratio], draws: int) -> dict[str, Any]:
    """The report: one row for each clip, method and ratio."""
    rows, clips = [], []
    for clip in (clip for clip in CLIPS if clip.name in found):
        measured = Measured(found[clip.name])
        origin = {"what": clip.what, "package": str(clip.package), "licence": clip.licence}
        shape = list(measured.tokens.grid.shape)
        clips.append({"clip": clip.name, **origin, "shape": shape, **measured.graph()})
        for spec in specs:
            for ratio in ratios:
                runs = [measured.coverage(one, ratio, seed) for seed, one in drawn(parse_method(spec), draws)]
                mean, fifth = (sum(values) / len(runs) for values in zip(*runs, strict=True))
                row = {"clip": clip.name, "method": spec, "ratio": float(ratio), "mean": mean, "fifth": fifth}
                rows.append(row | {"draws": len(runs)})
                print(f"{clip.name:12} {spec:34} {ratio!s:5} {100 * mean:6.2f} {100 * fifth:6.2f}", flush=True)
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return {"format": FORMAT, "encoder": "efficientnet-lite0", "versions": versions, "clips": clips, "rows": rows}


def main() -> None:
    """Measure, print, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--ratios", default=RATIOS)
    parser.add_argument("--draws", type=int, default=DRAWS, help="seeds 0, 1, ... of what depends on chance")
    parser.add_argument("--clips", nargs="+", metavar="NAME", help="only these clips")
    parser.add_argument("--cache", type=Path, default=features.CACHE)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    found = features.features(arguments.cache, arguments.clips)
    ratios = [parse_ratio(text) for text in arguments.ratios.split(",")]
    with torch.inference_mode():
        report = measure(found, split_methods(arguments.methods), ratios, arguments.draws)
    if arguments.output:
        arguments.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
