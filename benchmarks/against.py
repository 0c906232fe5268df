"""Our methods next to a published implementation: the ratio of times, and how many kept tokens agree.

    git clone https://github.com/xuyang-liu16/VidCom2 && python benchmarks/against.py VidCom2
    python benchmarks/against.py CHECKOUT --method evs --ratios 0.1,0.3 --shapes 64x14x15 --dtype bfloat16

CHECKOUT is a clone of a repository that published.py names. One file of it is loaded and run, for FlashVID two: look
at it first.
What that file imports, except torch, numpy, scipy and Python's own modules, is replaced by stand-ins, so that no model
and no other package is needed. Both sides run in one process on the same tensors: those of benchmarks/core.py, with
random saliency and keys that are a projection of the features. Prints one JSON line for each method, shape and ratio.

Where the published budget is not ceil(r N), our method gets the number of tokens that theirs kept; `budget_ours`
is the number that it would have kept. `theirs_to_ours` above 1: ours is faster.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stsimdiff_cli.errors import RequestError, StsimdiffError
from stsimdiff_cli.layer_pruning import LayerPruner, LayerState
from stsimdiff_cli.methods.base import Method
from stsimdiff_cli.methods.spec import parse_method
from stsimdiff_cli.ratio import Ratio, parse_ratio
from stsimdiff_cli.records import VideoTokens

sys.path.append(str(Path(__file__).parent))
from core import make_tokens
from published import ADAPTERS, Adapter, Outcome, load

HEADS, KEY_WIDTH, LAYERS = 4, 64, 28


class Layer0:
    """Stands in for an LLM: the features are the hidden states before layer 0, and no layer is run."""

    def __init__(self, tokens: VideoTokens) -> None:
        self.hidden = tokens.features.tensor().flatten(0, 2)

    def prefill(self, pruner: LayerPruner) -> None:
        """Run only what comes before layer 0."""
        pruner.before(LayerState(0, LAYERS, self.hidden))


def ours(adapter: Adapter, method: Method, tokens: VideoTokens, ratio: Ratio) -> Outcome:
    """The tokens that our method keeps."""
    layer0: Any = Layer0(tokens)
    if adapter.candidates:
        pruner = method.layer_pruner(tokens, ratio)
        layer0.prefill(pruner)
        return Outcome(pruner.index)
    chosen = method.select(tokens, ratio, layer0, lambda _: None)
    return Outcome(chosen.index, chosen.features)


def find(checkout: Path, wanted: list[str]) -> dict[str, Path]:
    """The file of each wanted method in the checkout; of every method that has one there if none is named.

    RequestError if the folder, a file or all of them are missing.
    """
    if not checkout.is_dir():
        raise RequestError(f"There is no folder {str(checkout)!r}.", "Clone one of the repositories first: see --help")
    for name in wanted:
        if name not in ADAPTERS:
            raise RequestError(f"There is no adapter for {name}.", f"There are {', '.join(ADAPTERS)}")
    paths = {}
    for name in wanted or ADAPTERS:
        path = checkout / ADAPTERS[name].file
        if path.is_file() and ADAPTERS[name].marks in path.read_text():
            paths[name] = path
        elif name in wanted:
            what = f"does not hold {ADAPTERS[name].marks!r}" if path.is_file() else "is not there"
            raise RequestError(
                f"{name}: the file {ADAPTERS[name].file} in {str(checkout)!r} {what}.",
                f"Point to a clone of https://github.com/{ADAPTERS[name].repository}",
            )
    if not paths:
        known = ", ".join(adapter.repository for adapter in ADAPTERS.values())
        raise RequestError(
            f"No published method that is known was found in {str(checkout)!r}.", f"Clone one of {known}"
        )
    return paths


def scene(shape: tuple[int, int, int], width: int, dtype: torch.dtype) -> VideoTokens:
    """Tokens with evidence, the same for both sides."""
    slots, rows, columns = shape
    tokens = make_tokens(slots, "scenes", rows, columns, width)
    random = torch.Generator().manual_seed(1)
    features = tokens.features.tensor().to(dtype)
    projection = torch.randn((width, HEADS * KEY_WIDTH), generator=random) / width**0.5
    keys = (tokens.features.tensor().float() @ projection).unflatten(-1, (HEADS, KEY_WIDTH)).to(dtype)
    saliency = torch.rand(shape, generator=random)  # float32: in bfloat16 most would tie
    return VideoTokens.of(tokens.grid, {"features": features, "keys": keys, "saliency": saliency})


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result of a call; its output is dropped."""
    with contextlib.redirect_stdout(io.StringIO()):
        start = time.perf_counter()
        result = run()
        return time.perf_counter() - start, result


def compare(name: str, module: Any, tokens: VideoTokens, ratio: Ratio, repeats: int) -> dict[str, Any]:
    """Both sides in turn, `repeats` times after a warm-up, as a line of the output."""
    adapter = ADAPTERS[name]
    method, count = parse_method(adapter.ours), tokens.grid.tokens
    run, read = adapter.setup(module, tokens, ratio)
    published = read(timed(run)[1])
    at = ratio if adapter.candidates else parse_ratio(Fraction(len(published.index), count))
    chosen = ours(adapter, method, tokens, at)
    times: list[tuple[float, float]] = []
    for _ in range(repeats):
        run, _ = adapter.setup(module, tokens, ratio)
        times.append((timed(run)[0], timed(lambda: ours(adapter, method, tokens, at))[0]))
    line = {"method": name, "shape": list(tokens.features.shape), "dtype": str(tokens.features.dtype)[6:]}
    line |= {"ratio": float(ratio), "budget_ours": ratio.budget(count), "kept_theirs": len(published.index)}
    line |= {"kept_ours": len(chosen.index), "agree": int(torch.isin(chosen.index, published.index).sum())}
    line |= slots(tokens, chosen.index, published.index) | difference(chosen, published)
    line |= {"seconds_theirs": spread([a for a, _ in times]), "seconds_ours": spread([b for _, b in times])}
    return line | {"theirs_to_ours": spread([a / b for a, b in times]), "note": adapter.note}


def slots(tokens: VideoTokens, one: Tensor, other: Tensor) -> dict[str, int]:
    """In how many slots both keep the same number of tokens."""
    shape = tokens.grid.shape
    counts = [torch.bincount(index // (shape[1] * shape[2]), minlength=shape[0]) for index in (one, other)]
    return {"slots_of_equal_count": int((counts[0] == counts[1]).sum())}


def difference(one: Outcome, other: Outcome) -> dict[str, float]:
    """If both merge: the largest difference between features of tokens that both keep, and the largest feature."""
    if one.features is None or other.features is None or not torch.isin(one.index, other.index).any():
        return {}
    x = one.features[torch.isin(one.index, other.index)].float()
    y = other.features[torch.isin(other.index, one.index)].float()
    return {"largest_feature": float(x.abs().max()), "largest_feature_difference": float((x - y).abs().max())}


def spread(values: list[float]) -> dict[str, float]:
    """Median, minimum and maximum, to four digits."""
    shown = (statistics.median(values), min(values), max(values))
    return {name: float(f"{value:.4g}") for name, value in zip(("median", "from", "to"), shown, strict=True)}


def main() -> None:
    """Find, load, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--method", default="", help=f"of {', '.join(ADAPTERS)}; default: what the checkout holds")
    parser.add_argument("--shapes", default="16x14x14,64x14x15", help="T x H x W of the token grids")
    parser.add_argument("--width", type=int, default=3584)
    parser.add_argument("--ratios", default="0.1,0.3,0.5")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64", "bfloat16"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    try:
        wanted = [name.strip() for name in arguments.method.split(",") if name.strip()]
        modules = {name: load(path, ADAPTERS[name].siblings) for name, path in find(arguments.checkout, wanted).items()}
        for text in arguments.shapes.split(","):
            slots, rows, columns = (int(size) for size in text.split("x"))
            tokens = scene((slots, rows, columns), arguments.width, getattr(torch, arguments.dtype))
            for ratio in map(parse_ratio, arguments.ratios.split(",")):
                for name, module in modules.items():
                    with torch.inference_mode():
                        line = compare(name, module, tokens, ratio, arguments.repeats)
                    print(json.dumps(line | {"threads": arguments.threads}), flush=True)
    except StsimdiffError as error:
        print(f"Error: {error}", error.hint or "", sep="\n", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
