"""Tokens and compressed videos made without a model."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import torch

from stsimdiff_cli.methods.spec import parse_method
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.pipeline import compress_tokens
from stsimdiff_cli.records import CompressedVideo, Layout, ModelRef, Source, TokenGrid, VideoTokens
from stsimdiff_cli.storage.directory import read_directory
from stsimdiff_cli.storage.file_features import FileFeatures


def make_tokens(shape: tuple[int, int, int] = (4, 3, 5), width: int = 16, seed: int = 0, **more) -> VideoTokens:
    """Random tokens with some structure: every slot resembles the one before."""
    generator = torch.Generator().manual_seed(seed)
    t, h, w = shape
    start = torch.randn((1, h, w, width), generator=generator)
    features = start + 0.5 * torch.randn((t, h, w, width), generator=generator).cumsum(0)
    grid = TokenGrid(
        shape=shape,
        width=width,
        seconds=tuple(0.25 * i for i in range(t)),
        layout=Layout(),
        model=ModelRef("nobody/nothing", "qwen2_5_vl", None, "0" * 32),
        source=Source("clip.mp4", 1, "00", 1.0, 4.0, t, 8, 8, "pyav"),
    )
    return VideoTokens.of(grid, {"features": features.to(more.pop("dtype", torch.float32)), **more})


def compressed(tokens: VideoTokens | None = None) -> CompressedVideo:
    """The tokens, or those of `make_tokens`, compressed to 0.3 by st-simdiff without an LLM."""
    method = parse_method("st-simdiff", importance="centrality")
    return compress_tokens(tokens or make_tokens(), Fraction(3, 10), method, runtime=Runtime(device="cpu"))


def file_features(path: Path, name: str, checksum: str) -> FileFeatures:
    """A tensor of a safetensors file as features that stay in it; `checksum` is what it should have."""
    return FileFeatures(path, name, read_directory(path).tensors[name], checksum)
