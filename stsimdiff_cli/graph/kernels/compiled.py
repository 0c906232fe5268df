"""The passes over the features as loops compiled by numba, for the CPU: `kernels.Kernels`.

bfloat16 is read as 16-bit integers and widened in registers, so that only two bytes per number travel from memory.
Threads divide tokens, communities or channels into pieces of fixed size; each number is computed by one thread in a
fixed order.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from torch import Tensor

#: Tokens that a thread takes at a time.
PIECE = 512
#: A group of more tokens leaves the cache before its sum is complete: threads divide its channels, then its tokens.
LARGE = 4 * PIECE
#: Sums may be reordered for vector instructions; nothing else may change.
FAST = {"reassoc", "contract", "nsz"}


def _jit(function: Callable) -> Any:
    """Compile on first use; cache the result on disk where that is possible."""
    try:
        return numba.njit(function, fastmath=FAST, nogil=True, cache=True)
    except RuntimeError:  # no writable folder
        return numba.njit(function, fastmath=FAST, nogil=True)


def _widening(_: Any, value: Any) -> Any:
    """A stored value in float64: a float32, or the upper 16 bits of one."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        number = arguments[0]
        if value == types.uint16:
            word = ir.IntType(32)
            bits = builder.shl(builder.zext(number, word), ir.Constant(word, 16))
            number = builder.bitcast(bits, ir.FloatType())
        return builder.fpext(number, ir.DoubleType())

    return types.float64(value), generate


_wide: Any = intrinsic(_widening)


@_jit
def _products(x, previous, columns, cells, begin, end, out):
    """Dot products of tokens `begin` to `end` of x (N, D) into out (N, 4)."""
    count, width = x.shape
    for i in range(begin, end):
        here, right, down = x[i], x[min(i + 1, count - 1)], x[min(i + columns, count - 1)]
        earlier = x[i - cells] if i >= cells else previous[i]
        itself, to_right, to_down, to_earlier = 0.0, 0.0, 0.0, 0.0
        for d in range(width):
            value = _wide(here[d])
            itself += value * value
            to_right += value * _wide(right[d])
            to_down += value * _wide(down[d])
            to_earlier += value * _wide(earlier[d])
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = itself, to_right, to_down, to_earlier


@_jit
def _pairs(x, y, begin, end, out):
    """Rows `begin` to `end` of x (N, D) with those of y."""
    for i in range(begin, end):
        a, b, dot = x[i], y[i], 0.0
        for d in range(len(a)):
            dot += _wide(a[d]) * _wide(b[d])
        out[i] = dot


@_jit
def _add(x, inverse, order, begin, total):
    """Add channels of unit vectors, from `begin` on, to `total`: four vectors at a time, to access it less often."""
    end, k = begin + len(total), 0
    while k + 4 <= len(order):
        a, b, c, e = order[k], order[k + 1], order[k + 2], order[k + 3]
        wa, wb, wc, we = inverse[a], inverse[b], inverse[c], inverse[e]
        xa, xb, xc, xe = x[a, begin:end], x[b, begin:end], x[c, begin:end], x[e, begin:end]
        for d in range(len(total)):
            total[d] += wa * _wide(xa[d]) + wb * _wide(xb[d]) + wc * _wide(xc[d]) + we * _wide(xe[d])
        k += 4
    while k < len(order):
        a = order[k]
        wa, xa = inverse[a], x[a, begin:end]
        for d in range(len(total)):
            total[d] += wa * _wide(xa[d])
        k += 1


@_jit
def _dot(row, total):
    dot = 0.0
    for d in range(len(total)):
        dot += total[d] * _wide(row[d])
    return dot


@_jit
def _sums(x, inverse, order, start, begin, end, out):
    """Channels `begin` to `end` of the sum of every group."""
    for group in range(len(out)):
        _add(x, inverse, order[start[group] : start[group + 1]], begin, out[group, begin:end])


@_jit
def _dots(x, inverse, order, group, sums, begin, end, out):
    """Members `begin` to `end`; group (M,) is the row of `sums` for each member."""
    for k in range(begin, end):
        out[k] = _dot(x[order[k]], sums[group[k]]) * inverse[order[k]]


@_jit
def _affinities(x, inverse, order, start, begin, end, out):
    """Groups `begin` to `end`: each is summed and multiplied by its sum while it is in the cache."""
    total = np.empty(x.shape[1])
    for group in range(begin, end):
        low, high = start[group], start[group + 1]
        total[:] = 0
        _add(x, inverse, order[low:high], 0, total)
        for k in range(low, high):
            out[k] = _dot(x[order[k]], total) * inverse[order[k]]


def products(chunk: Tensor, previous: Tensor | None) -> Tensor:
    """See `Kernels.products`."""
    slots, height, columns, width = chunk.shape
    x = _array(chunk.reshape(-1, width))
    before = x if previous is None else _array(previous.reshape(-1, width))
    out = torch.empty((slots, height, columns, 4), dtype=torch.float64)
    flat, cells = out.view(-1, 4).numpy(), height * columns
    _share(len(x), PIECE, lambda begin, end: _products(x, before, columns, cells, begin, end, flat))
    return out


def pairs(rows: Tensor, others: Tensor) -> Tensor:
    """See `Kernels.pairs`."""
    out = torch.empty(len(rows), dtype=torch.float64)
    x, y, target = _array(rows), _array(others), out.numpy()
    _share(len(x), PIECE, lambda begin, end: _pairs(x, y, begin, end, target))
    return out


def sums(rows: Tensor, inverse: Tensor, order: Tensor, start: Tensor) -> Tensor:
    """See `Kernels.sums`."""
    out = torch.zeros((len(start) - 1, rows.shape[1]), dtype=torch.float64)
    x, weight, member, bound, target = _array(rows), inverse.numpy(), order.numpy(), start.numpy(), out.numpy()
    width = rows.shape[1]
    piece = -(-width // (64 * torch.get_num_threads())) * 64  # channels are independent: no number depends on this
    _share(width, piece, lambda begin, end: _sums(x, weight, member, bound, begin, end, target))
    return out


def dots(rows: Tensor, inverse: Tensor, order: Tensor, start: Tensor, sums: Tensor) -> Tensor:
    """See `Kernels.dots`."""
    out = torch.empty(len(order), dtype=torch.float64)
    group = torch.repeat_interleave(start.diff()).numpy()
    x, weight, member, total, target = _array(rows), inverse.numpy(), order.numpy(), sums.numpy(), out.numpy()
    _share(len(order), PIECE, lambda begin, end: _dots(x, weight, member, group, total, begin, end, target))
    return out


def affinities(rows: Tensor, inverse: Tensor, order: Tensor, start: Tensor) -> Tensor:
    """See `Kernels.affinities`."""
    large = start.diff() > LARGE
    inside = torch.repeat_interleave(large, start.diff())
    out = torch.empty(len(order), dtype=torch.float64)
    for part, of_part, work in ((large, inside, _read_twice), (~large, ~inside, _read_once)):
        if bool(part.any()):
            size = start.diff()[part]
            out[of_part] = work(rows, inverse, order[of_part], torch.cat([size.new_zeros(1), size.cumsum(0)]))
    return out


def _read_twice(rows: Tensor, inverse: Tensor, order: Tensor, start: Tensor) -> Tensor:
    """Threads divide the channels of the sums, and then the tokens."""
    return dots(rows, inverse, order, start, sums(rows, inverse, order, start))


def _read_once(rows: Tensor, inverse: Tensor, order: Tensor, start: Tensor) -> Tensor:
    """Threads divide the groups, in runs of about PIECE tokens."""
    out = torch.empty(len(order), dtype=torch.float64)
    x, weight, member, bound, target = _array(rows), inverse.numpy(), order.numpy(), start.numpy(), out.numpy()
    begins = np.unique(np.searchsorted(bound, np.arange(0, len(order), PIECE)))  # first groups of runs
    cut = [*begins.tolist(), len(bound) - 1]
    _share(len(cut) - 1, 1, lambda run, _: _affinities(x, weight, member, bound, cut[run], cut[run + 1], target))
    return out


def _array(rows: Tensor) -> np.ndarray:
    """Rows (N, D) as an array on the same memory; bfloat16 as its bits."""
    rows = rows.contiguous()
    return rows.view(torch.uint16).numpy() if rows.dtype == torch.bfloat16 else rows.numpy()


def _share(count: int, piece: int, work: Callable[[int, int], Any]) -> None:
    """Call `work(begin, end)` for all pieces of range(count), on as many threads as torch uses."""
    pieces = [(begin, min(begin + piece, count)) for begin in range(0, count, piece)]
    threads = min(torch.get_num_threads(), len(pieces))
    if threads < 2:
        for begin, end in pieces:
            work(begin, end)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda bounds: work(*bounds), pieces):
            pass
