"""Features of a real encoder on real clips, as tokens files that every command and method reads.

    python -m benchmarks.real.features [--cache build/real]

Each clip becomes 64 frames of 448 x 448 pixels (the whole frame, resized as LLaVA's encoders do), each frame a grid of
14 x 14 cells with 1280 features of EfficientNet-Lite0 (ImageNet weights). There is no LLM behind them: these tokens can
be compressed, not asked about. What is in the cache folder already is not made again.
"""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from stsimdiff_cli.records import Layout, ModelRef, TokenGrid, VideoTokens
from stsimdiff_cli.storage.reading import StoredVideo
from stsimdiff_cli.storage.writing import save_tokens
from stsimdiff_cli.video import Sampling, open_stream

from . import clips
from .network import STRIDE, WIDTH, EfficientNetLite0, pretrained, weights_path

CACHE = Path("build/real")
FRAMES, SIDE, CHUNK = 64, 448, 8


def resized(pixels: Tensor, side: int) -> Tensor:
    """Frames (n, height, width, 3) uint8 as (n, side, side, 3) float32, 0 to 255."""
    planes = pixels.permute(0, 3, 1, 2).float()
    return F.interpolate(planes, (side, side), mode="bilinear", antialias=True).permute(0, 2, 3, 1)


@torch.inference_mode()
def encode(
    path: Path, network: EfficientNetLite0, model: ModelRef, frames: int = FRAMES, side: int = SIDE
) -> VideoTokens:
    """The tokens of a video: `frames` frames, evenly spaced, each a grid of side / 32 cells a side; bfloat16."""
    stream = open_stream(path, Sampling(frames=frames), CHUNK)
    parts: list[Tensor] = []
    seconds: list[float] = []
    for chunk in stream.chunks:
        parts.append(network.grid(resized(chunk.pixels, side)).bfloat16())
        seconds += chunk.seconds
    features = torch.cat(parts)  # (T, H, W, D)
    shape = (len(seconds), side // STRIDE, side // STRIDE)
    source = replace(stream.source, name=path.stem)
    return VideoTokens.of(TokenGrid(shape, WIDTH, tuple(seconds), Layout(), model, source), {"features": features})


def reference(weights: Path) -> ModelRef:
    """What the tokens files say about the encoder."""
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    return ModelRef("efficientnet-lite0", "none", None, digest[:32])


def features(cache: Path = CACHE, only: list[str] | None = None) -> dict[str, VideoTokens]:
    """The tokens of all clips that can be had (or of those in `only`), in files of the cache folder."""
    found, network = {}, None
    for name, path in clips.fetch(cache / "clips").items():
        if only is not None and name not in only:
            continue
        file = cache / f"{name}.safetensors"
        if not file.exists():
            network = network or pretrained()
            save_tokens(file, encode(path, network, reference(weights_path())))
        found[name] = StoredVideo(file).tokens(in_memory=False)
    return found


def main() -> None:
    """Make what is missing, and say what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=CACHE)
    arguments = parser.parse_args()
    for name, tokens in features(arguments.cache).items():
        slots, rows, columns = tokens.grid.shape
        print(f"{arguments.cache / name}.safetensors: {slots} x {rows} x {columns} x {tokens.grid.width}")


if __name__ == "__main__":
    main()
