"""The passes over the features that take the time, in three forms that give the same numbers (to about 1e-13).

- `plain`: tensor operations, on any device; the reference.
- `compiled`: loops compiled by numba, for bfloat16 and float32 on the CPU; needs `stsimdiff[fast]`.
- `fused`: Triton kernels, for a GPU.

Each is a module with the five functions of `Kernels`. Rows are read in the type in which they are stored, and all sums
are in float64: there the product of two half-precision or float32 values is exact, nothing overflows, and tokens whose
centralities tie by the rules of arithmetic have equal numbers. No result depends on the number of threads.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol, cast

import torch
from torch import Tensor

#: Loading numba and its loops takes half a second per process (two on the very first run, which compiles them). With
#: fewer numbers than this (0.5 GB of bfloat16), a selection is faster without.
WORTH_LOADING = 1 << 28
#: Types of features that the compiled loops read without a copy.
COMPILED = (torch.bfloat16, torch.float32)


class Kernels(Protocol):
    """What each of the three modules provides.

    `rows` (N, D) are the tokens of a chunk, `inverse` (N,) float64 is one over their lengths (0 for a zero vector).
    Groups of rows are given as `order` (M,) int64, row numbers group by group, and `start` (G+1,) int64: group g is
    `order[start[g]:start[g + 1]]`.
    """

    def products(self, chunk: Tensor, previous: Tensor | None) -> Tensor:
        """Dot products (n, H, W, 4) float64 of every token of `chunk` (n, H, W, D).

        With itself, with its neighbour in the next column and in the next row, and with the token of its cell one slot
        earlier, which is in `previous` (H, W, D) for the first slot. Where there is no such neighbour, the number means
        nothing.
        """

    def pairs(self, rows: Tensor, others: Tensor) -> Tensor:
        """The dot product (N,) float64 of each row of `rows` (N, D) with the same row of `others` (N, D)."""

    def sums(self, rows: Tensor, inverse: Tensor, order: Tensor, start: Tensor) -> Tensor:
        """The sum (G, D) float64 of each group's unit vectors."""

    def dots(self, rows: Tensor, inverse: Tensor, order: Tensor, start: Tensor, sums: Tensor) -> Tensor:
        """The dot product (M,) float64 of each unit vector with its group's row of `sums` (G, D)."""

    def affinities(self, rows: Tensor, inverse: Tensor, order: Tensor, start: Tensor) -> Tensor:
        """`dots` with the `sums` of the same groups (M,), reading each row from memory only once where possible."""


def choose(features: Tensor, elements: int) -> Kernels:
    """The fastest form for tensors like `features`, with `elements` numbers in all."""
    with suppress(ImportError):  # not installed, or incompatible with the installed numpy or torch
        if features.is_cuda:
            from . import fused

            return cast(Kernels, fused)
        if features.device.type == "cpu" and features.dtype in COMPILED and elements >= WORTH_LOADING:
            from . import compiled

            return cast(Kernels, compiled)
    from . import plain

    return cast(Kernels, plain)


def inverse_of(norm: Tensor) -> Tensor:
    """1 / norm, and 0 for 0: a zero vector has cosine 0 with everything."""
    return torch.where(norm > 0, 1 / norm, 0)
