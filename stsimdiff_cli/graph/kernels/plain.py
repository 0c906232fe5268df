"""The passes over the features as tensor operations, on any device: `kernels.Kernels`.

Rows are widened to float64 block by block, in blocks that stay in the cache. Dot products are batched matrix products,
which read both rows and write one number; an elementwise product followed by a sum would write the product to memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

#: Rows widened to float64 at a time: few enough for the cache of a CPU, enough to keep a GPU busy.
ROWS = {"cpu": 96, "cuda": 4096}


def products(chunk: Tensor, previous: Tensor | None) -> Tensor:
    """See `Kernels.products`."""
    slots, height, columns, width = chunk.shape
    cells = height * columns
    flat = chunk.reshape(slots, cells, width)
    out = torch.zeros((slots, cells, 4), dtype=torch.float64, device=chunk.device)
    step = min(cells, -(-_rows(chunk) // columns) * columns)  # whole rows of the grid
    block = torch.zeros((2 * step + columns, width), dtype=torch.float64, device=chunk.device)
    for t in range(slots):
        before = flat[t - 1] if t else None if previous is None else previous.reshape(cells, width)
        for begin in range(0, cells, step):
            count = min(step, cells - begin)
            reach = min(begin + count + columns, cells) - begin  # with the grid's row below
            if before is not None:
                block[:count] = before[begin : begin + count]
            block[count : count + reach] = flat[t, begin : begin + reach]
            # Each row x meets two other rows of the block at a time: their distance is the same for all x.
            x = block[count : 2 * count].unsqueeze(1)  # (count, 1, D)
            itself_right = block.as_strided((count, width, 2), (width, 1, width), count * width)
            earlier_down = block.as_strided((count, width, 2), (width, 1, (count + columns) * width))
            target = out[t, begin : begin + count]
            target[:, :2] = torch.bmm(x, itself_right).squeeze(1)
            target[:, 2:] = torch.bmm(x, earlier_down).squeeze(1).flip(1)  # down, earlier
    return out.view(slots, height, columns, 4)


def pairs(rows: Tensor, others: Tensor) -> Tensor:
    """See `Kernels.pairs`."""
    out = torch.empty(len(rows), dtype=torch.float64, device=rows.device)
    step = max(1, _rows(rows) // 2)
    x, y = (torch.empty((step, rows.shape[1]), dtype=torch.float64, device=rows.device) for _ in range(2))
    for begin in range(0, len(rows), step):
        part = rows[begin : begin + step]
        n = len(part)
        x[:n], y[:n] = part, others[begin : begin + n]
        torch.sum(x[:n].mul_(y[:n]), 1, out=out[begin : begin + n])
    return out


def sums(rows: Tensor, inverse: Tensor, order: Tensor, start: Tensor) -> Tensor:
    """See `Kernels.sums`."""
    out = torch.zeros((len(start) - 1, rows.shape[1]), dtype=torch.float64, device=rows.device)
    for group, place in _batches(start, _rows(rows)):
        member = order[place]  # (b, n)
        out[group] += torch.bmm(inverse[member].unsqueeze(1), _wide(rows, member)).squeeze(1)
    return out


def dots(rows: Tensor, inverse: Tensor, order: Tensor, start: Tensor, sums: Tensor) -> Tensor:
    """See `Kernels.dots`."""
    out = torch.empty(len(order), dtype=torch.float64, device=rows.device)
    for group, place in _batches(start, _rows(rows)):
        member = order[place]
        out[place] = torch.bmm(_wide(rows, member), sums[group].unsqueeze(2)).squeeze(2) * inverse[member]
    return out


def affinities(rows: Tensor, inverse: Tensor, order: Tensor, start: Tensor) -> Tensor:
    """See `Kernels.affinities`."""
    out = torch.empty(len(order), dtype=torch.float64, device=rows.device)
    size = start.diff()
    large = size > _rows(rows)
    inside = torch.repeat_interleave(large, size)
    if bool(large.any()):  # too large for the cache: read twice
        few = torch.cat([start.new_zeros(1), size[large].cumsum(0)])
        out[inside] = dots(rows, inverse, order[inside], few, sums(rows, inverse, order[inside], few))
    for group, place in _batches(start, _rows(rows)):
        if large[group[0]]:
            continue
        member = order[place]
        x, weight = _wide(rows, member), inverse[member]  # (b, n, D), (b, n)
        total = torch.bmm(weight.unsqueeze(1), x)  # (b, 1, D)
        out[place] = torch.bmm(x, total.transpose(1, 2)).squeeze(2) * weight
    return out


def _rows(tensor: Tensor) -> int:
    return ROWS.get(tensor.device.type, ROWS["cuda"])


def _wide(rows: Tensor, member: Tensor) -> Tensor:
    """The rows `member` (b, n) in float64: (b, n, D)."""
    return rows.index_select(0, member.flatten()).double().view(*member.shape, rows.shape[1])


def _batches(start: Tensor, limit: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Groups of the same size n, together: their numbers (b,) and the places (b, n) of their members, b n <= `limit`.

    A group larger than `limit` comes alone, in several parts.
    """
    size = start.diff()
    for n in torch.unique(size).tolist():
        groups = (size == n).nonzero().squeeze(1)
        if n > limit:
            for group in groups.split(1):
                places = torch.arange(int(start[group]), int(start[group]) + n, device=start.device)
                yield from ((group, part.unsqueeze(0)) for part in places.split(limit))
            continue
        offset = torch.arange(n, device=start.device)
        for group in groups.split(max(1, limit // max(1, n))):
            yield group, start[group].unsqueeze(1) + offset
