"""The forms that are compared: those that --store offers, through a real file, and trials of others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from stsimdiff_cli.records import CompressedVideo
from stsimdiff_cli.storage.packed import pack, unpack
from stsimdiff_cli.storage.packing import Packing
from stsimdiff_cli.storage.reading import StoredVideo
from stsimdiff_cli.storage.writing import save_compressed
from stsimdiff_cli.token_features import DenseFeatures

#: What --store offers, from the most bits to the fewest; the first is what the others are compared with.
OFFERED = ("float32", "bfloat16", "int8", "int4", "int3")
#: Of the scales tried at few bits, as in storage/packed.py.
SHRINK = tuple(1 - 0.06 * step for step in range(11))


def rounded(values: Tensor, bits: int, axis: int) -> Tensor:
    """Numbers (M, D) with `bits` each and one scale along an axis: 1 for a token, 0 for a channel; no rotation."""
    middle = (2**bits - 1) / 2
    largest = values.abs().amax(axis, keepdim=True).clamp_min(1e-30) / middle
    best, least = values, torch.full_like(largest, torch.inf)
    for factor in SHRINK if bits <= 4 else SHRINK[:1]:
        scale = largest * factor
        tried = ((values / scale + middle).round().clamp(0, 2**bits - 1) - middle) * scale
        error = (tried - values).square().sum(axis, keepdim=True)
        best, least = torch.where(error < least, tried, best), torch.minimum(error, least)
    return best


def fp8(values: Tensor) -> Tensor:
    """Numbers (M, D) as float8_e4m3fn, one scale a token."""
    scale = values.abs().amax(1, keepdim=True).clamp_min(1e-30) / torch.finfo(torch.float8_e4m3fn).max
    return (values / scale).to(torch.float8_e4m3fn).float() * scale


def rotated(values: Tensor, bits: int) -> Tensor:
    """Numbers (M, D) as --store packs them, with bits that it does not offer."""
    packing = Packing(bits, "float32", 0)
    return unpack(*pack(values, packing), values.shape[1], packing)


#: Trials: name -> (M, D) float32 after rounding.
TRIALS: dict[str, Callable[[Tensor], Tensor]] = {
    "fp8, scale a token": fp8,
    **{
        f"{bits} bits, scale a {name}": lambda x, bits=bits, axis=axis: rounded(x, bits, axis)
        for bits in (8, 4, 3)
        for name, axis in (("token", 1), ("channel", 0))
    },
    "2 bits, rotated": lambda x: rotated(x, 2),
}


def forms_of(video: CompressedVideo, folder: Path, trials: bool) -> Iterator[tuple[str, int | None, CompressedVideo]]:
    """Name, bytes of the file (None for a trial) and the video in each form."""
    for store in OFFERED:
        file = folder / "video.safetensors"
        size = save_compressed(file, video, store=store)
        yield store, size, StoredVideo(file).video()
    for name, form in TRIALS.items() if trials else ():
        yield name, None, replace(video, features=DenseFeatures(form(video.features.tensor().float()), token_dims=1))
