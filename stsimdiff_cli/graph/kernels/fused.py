"""The passes over the features as Triton kernels, for a GPU: `kernels.Kernels`.

Every program reads rows as they are stored and sums in float64 registers. No two programs add to the same number, so
the order of addition is fixed. A token's neighbours are read by programs that run at about the same time, and so come
from the GPU's cache.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

#: Channels that a program holds at a time.
BLOCK = 512
#: Members that one program adds up; a larger group is summed in runs, and then the runs are summed.
RUN = 128
#: Groups whose sums (D float64 each) are held at a time.
GROUPS = 4096


@triton.jit
def _products(x, previous, out, columns, cells, count, width, block: tl.constexpr):
    """One token of x (N, D) per program; out (N, 4)."""
    i = tl.program_id(0).to(tl.int64)
    right, down = tl.minimum(i + 1, count - 1), tl.minimum(i + columns, count - 1)
    earlier = x + (i - cells) * width
    if i < cells:
        earlier = previous + i * width
    itself = tl.zeros([block], tl.float64)
    to_right = tl.zeros([block], tl.float64)
    to_down = tl.zeros([block], tl.float64)
    to_earlier = tl.zeros([block], tl.float64)
    for begin in range(0, width, block):
        d = begin + tl.arange(0, block)
        there = d < width
        value = tl.load(x + i * width + d, there, 0).to(tl.float64)
        itself += value * value
        to_right += value * tl.load(x + right * width + d, there, 0).to(tl.float64)
        to_down += value * tl.load(x + down * width + d, there, 0).to(tl.float64)
        to_earlier += value * tl.load(earlier + d, there, 0).to(tl.float64)
    tl.store(out + 4 * i, tl.sum(itself))
    tl.store(out + 4 * i + 1, tl.sum(to_right))
    tl.store(out + 4 * i + 2, tl.sum(to_down))
    tl.store(out + 4 * i + 3, tl.sum(to_earlier))


@triton.jit
def _pairs(x, y, out, width, block: tl.constexpr):
    """One row of x (N, D) and of y per program; out (N,)."""
    i = tl.program_id(0).to(tl.int64)
    dot = tl.zeros([block], tl.float64)
    for begin in range(0, width, block):
        d = begin + tl.arange(0, block)
        value = tl.load(x + i * width + d, d < width, 0).to(tl.float64)
        dot += value * tl.load(y + i * width + d, d < width, 0).to(tl.float64)
    tl.store(out + i, tl.sum(dot))


@triton.jit
def _sums(x, inverse, order, start, out, width, block: tl.constexpr):
    """A block of channels of one group per program; out (G, D)."""
    group = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * block + tl.arange(0, block)
    total = tl.zeros([block], tl.float64)
    for k in range(tl.load(start + group), tl.load(start + group + 1)):
        row = tl.load(order + k)
        total += tl.load(inverse + row) * tl.load(x + row * width + d, d < width, 0).to(tl.float64)
    tl.store(out + group * width + d, total, d < width)


@triton.jit
def _dots(x, inverse, order, group, sums, out, width, block: tl.constexpr):
    """One member per program; group (M,) is the row of `sums` for each member."""
    k = tl.program_id(0).to(tl.int64)
    row, total = tl.load(order + k), tl.load(group + k)
    dot = tl.zeros([block], tl.float64)
    for begin in range(0, width, block):
        d = begin + tl.arange(0, block)
        value = tl.load(x + row * width + d, d < width, 0).to(tl.float64)
        dot += value * tl.load(sums + total * width + d, d < width, 0)
    tl.store(out + k, tl.sum(dot) * tl.load(inverse + row))


def products(chunk: Tensor, previous: Tensor | None) -> Tensor:
    """See `Kernels.products`."""
    slots, height, columns, width = chunk.shape
    x = chunk.contiguous()
    before = x if previous is None else previous.contiguous()
    count, cells = slots * height * columns, height * columns
    out = torch.empty((slots, height, columns, 4), dtype=torch.float64, device=chunk.device)
    _launch(_products, (count,), x, before, out, columns, cells, count, width)
    return out


def pairs(rows: Tensor, others: Tensor) -> Tensor:
    """See `Kernels.pairs`."""
    out = torch.empty(len(rows), dtype=torch.float64, device=rows.device)
    _launch(_pairs, (len(rows),), rows.contiguous(), others.contiguous(), out, rows.shape[1])
    return out


def sums(rows: Tensor, inverse: Tensor, order: Tensor, start: Tensor) -> Tensor:
    """See `Kernels.sums`."""
    runs = (start.diff() + RUN - 1) // RUN  # (G,) runs of each group
    begin = _offsets(runs)
    group = torch.repeat_interleave(runs)  # (R,)
    bound = start[group] + RUN * (torch.arange(len(group), device=start.device) - begin[group])
    part = _added(rows, inverse, order, torch.cat([bound, start[-1:]]))
    if len(part) == len(runs):
        return part
    each = torch.arange(len(part), device=start.device)
    return _added(part, torch.ones_like(each, dtype=torch.float64), each, begin)


def dots(rows: Tensor, inverse: Tensor, order: Tensor, start: Tensor, sums: Tensor) -> Tensor:
    """See `Kernels.dots`."""
    out = torch.empty(len(order), dtype=torch.float64, device=rows.device)
    group = torch.repeat_interleave(start.diff())
    _launch(_dots, (len(order),), rows.contiguous(), inverse, order, group, sums, out, rows.shape[1])
    return out


def affinities(rows: Tensor, inverse: Tensor, order: Tensor, start: Tensor) -> Tensor:
    """See `Kernels.affinities`."""
    parts = [torch.empty(0, dtype=torch.float64, device=rows.device)]
    for low in range(0, len(start) - 1, GROUPS):
        bound = start[low : low + GROUPS + 1]
        member = order[int(bound[0]) : int(bound[-1])]
        bound = bound - bound[0]
        parts.append(dots(rows, inverse, member, bound, sums(rows, inverse, member, bound)))
    return torch.cat(parts)


def _added(rows: Tensor, inverse: Tensor, order: Tensor, start: Tensor) -> Tensor:
    """Sums (G, D) of groups, member by member."""
    width = rows.shape[1]
    out = torch.empty((len(start) - 1, width), dtype=torch.float64, device=rows.device)
    grid = (len(out), triton.cdiv(width, BLOCK))
    _launch(_sums, grid, rows.contiguous(), inverse, order, start, out, width)
    return out


def _offsets(size: Tensor) -> Tensor:
    """Where runs of sizes (R,) begin and where the last one ends: (R+1,)."""
    return torch.cat([size.new_zeros(1), size.cumsum(0)])


def _launch(kernel: Any, grid: tuple[int, ...], x: Tensor, *arguments: Any) -> None:
    """Run a kernel on the device of `x`, if there is anything to do."""
    if all(grid):
        with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
            kernel[grid](x, *arguments, block=BLOCK)
