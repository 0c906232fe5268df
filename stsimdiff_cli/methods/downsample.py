"""Downsample: every slot as a smaller picture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from ..graph.numerics import refuse_non_finite
from ..ratio import Ratio, shares
from ..records import Selection, VideoTokens
from .base import Llm, Method, Step, plain_selection, slot_budgets

#: First row, end, first column, end of the cells that become one token.
Cells = tuple[int, int, int, int]


@dataclass(frozen=True)
class Downsample(Method):
    """The control that "Are We Using the Right Benchmark" (VTC-Bench, arXiv 2510.07143) asks for: a lower resolution.

    Every slot keeps its even share of ceil(r N) as means of blocks of cells. Rows of cells are cut into h bands of
    equal height, h = sqrt(share H / W) to the nearest whole number, so that blocks are about as wide as high. The share
    is divided among the bands as evenly as whole numbers allow, and each band is cut into that many blocks of equal
    width: a share that is not a rectangle makes some bands a block richer than others. Sizes that do not divide evenly
    differ by one cell. Every cell is in exactly one block, and a block stands at the cell in its middle (of two, the
    upper or left one).

    - VTC-Bench makes the picture smaller before the encoder sees it. A file holds tokens, so here their features are
      averaged, as in the pooling layers of LLaVA-OneVision and LLaVA-Video.
    - Columns that show no pixels (LLaVA-Video's newlines) are not mixed with the picture: they are blocks of their own,
      counted in the band's share, and left out of a band that has only one token.
    - Means are computed in float32. A block of one cell is left as it is.
    """

    name: ClassVar[str] = "downsample"
    streams: ClassVar[bool] = True
    by_segment: ClassVar[bool] = True

    def select(self, tokens: VideoTokens, ratio: Ratio, llm: Llm, step: Step) -> Selection:  # noqa: ARG002
        """Average ceil(r N) blocks of cells."""
        _, rows, columns = tokens.grid.shape
        budget = slot_budgets(tokens, ratio)
        blank = min(tokens.grid.coverage.blank_columns, columns - 1)
        step("pool")
        index, pooled = [], []
        for begin, chunk in tokens.features.chunks(1):
            blocks = cells(rows, columns, budget[begin], blank)
            index += [begin * rows * columns + (a + b - 1) // 2 * columns + (c + d - 1) // 2 for a, b, c, d in blocks]
            refuse_non_finite(chunk[0], begin)
            pooled.append(_means(chunk[0], blocks).cpu())
        return replace(plain_selection(tokens, torch.tensor(index)), features=torch.cat(pooled))


def cells(rows: int, columns: int, count: int, blank: int = 0) -> list[Cells]:
    """`count` blocks that cover a grid, in raster order: see Downsample. The last `blank` columns show no pixels."""
    if count == 0:
        return []
    bands = round((count * rows / columns) ** 0.5)
    bands = min(max(bands, -(-count // columns)), rows, count)
    bands = max(bands, 1)
    top, blocks = _edges(rows, bands), []
    for band, share in enumerate(shares(count, [columns] * bands)):
        single = min(blank, share - 1)  # blank columns; the others, if there are any, belong to the last of these
        left = _edges(columns - blank, share - single)
        if single > 0:
            left += [*range(columns - blank + 1, columns - blank + single), columns]
        blocks += [(top[band], top[band + 1], a, b) for a, b in pairwise(left)]
    return blocks


def _edges(length: int, parts: int) -> list[int]:
    """Where `parts` stretches of `length` begin, and where the last ends."""
    return [length * i // parts for i in range(parts + 1)]


def _means(slot: Tensor, blocks: list[Cells]) -> Tensor:
    """The mean of each block (b, D) of a slot (H, W, D), in its type."""
    means = [slot[a:b, c:d].flatten(0, 1).float().mean(0).to(slot.dtype) for a, b, c, d in blocks]
    return torch.stack(means) if means else slot.new_zeros((0, slot.shape[-1]))
