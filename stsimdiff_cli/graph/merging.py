"""Similarities of rows and means of rows, a few rows at a time: no copy of a whole video in float32 is made."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

#: Rows in float32 at a time: as many as fit in a core's cache on a CPU, more where a call costs more than the work.
_ROWS_CPU, _ROWS = 64, 8192


def similarity_of_neighbours(x: Tensor, order: Tensor) -> Tensor:
    """Cosine of each of the rows `order` (n,) of `x` (N, D) to the next one: (n - 1,) float32, on the device of `x`."""
    order = order.to(x.device)
    cosine = torch.empty(max(len(order) - 1, 0), dtype=torch.float32, device=x.device)
    for part in _parts(len(cosine), x.device):
        unit = torch.nn.functional.normalize(x[order[part.start : part.stop + 1]].float(), dim=-1)
        cosine[part] = (unit[1:] * unit[:-1]).sum(-1)
    return cosine


def means(x: Tensor, row: Tensor, group: Tensor, groups: int) -> Tensor:
    """Mean of the rows `row` (n,) of `x` (N, D) in each group: (groups, D), computed in float32, in the type of `x`.

    `group` (n,) numbers the groups from 0; none is empty.
    """
    row, group = row.to(x.device), group.to(x.device)
    sums = torch.zeros((groups, x.shape[1]), dtype=torch.float32, device=x.device)
    for part in _parts(len(row), x.device):
        sums.index_add_(0, group[part], x[row[part]].float())
    size = torch.bincount(group, minlength=groups)
    return sums.div_(size[:, None]).to(x.dtype)


def _parts(count: int, device: torch.device) -> Iterator[slice]:
    step = _ROWS_CPU if device.type == "cpu" else _ROWS
    return (slice(begin, min(begin + step, count)) for begin in range(0, count, step))
