"""Whole slots: fewer points in time instead of fewer tokens at each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stsimdiff_cli.graph.numerics import at_resolution, stable_topk, unit_slot
from stsimdiff_cli.methods.base import Llm, Method, Step, parameter, plain_selection
from stsimdiff_cli.ratio import Ratio
from stsimdiff_cli.records import Selection, VideoTokens


@dataclass(frozen=True)
class WholeSlots(Method):
    """Keep whole slots, as if fewer frames had been read: what a method must beat to be worth its while.

    The budget of ceil(r N) tokens fills slots of H W tokens in the order of `pick`; the last one that it reaches keeps
    evenly spaced tokens. Ties in change go to the earlier slot.
    """

    name: ClassVar[str] = "whole-slots"
    summary: ClassVar[str] = "whole slots, evenly spaced or where the video changes most"
    citation: ClassVar[str] = "control"

    pick: str = parameter("spaced", "slots evenly spaced, or those unlike the slot before", ("spaced", "change"))

    def select(self, tokens: VideoTokens, ratio: Ratio, llm: Llm, step: Step) -> Selection:  # noqa: ARG002
        """Choose ceil(r N) tokens."""
        slots, rows, columns = tokens.grid.shape
        area, budget = rows * columns, ratio.budget(tokens.grid.tokens)
        step("select")
        count = -(-budget // area)  # slots that the budget reaches
        if self.pick == "change":
            chosen = stable_topk(at_resolution(_change(tokens.features.tensor())), count).cpu()
        else:
            chosen = (2 * torch.arange(count) + 1) * slots // (2 * count)
        last = budget - (count - 1) * area  # tokens of the last slot: 1 to H W
        full = chosen[:-1, None] * area + torch.arange(area)  # (count - 1, H W)
        part = chosen[-1] * area + (2 * torch.arange(last) + 1) * area // (2 * last)  # (last,)
        return plain_selection(tokens, torch.cat([full.flatten(), part]).sort().values, slots=count)


def _change(features: Tensor) -> Tensor:
    """(T,) 1 - the mean cosine of a slot to the one before; infinite in the first, which has none."""
    unit = [unit_slot(features, t) for t in range(len(features))]  # (H, W, D) each
    change = [1 - (a * b).sum(-1).mean() for a, b in zip(unit[1:], unit[:-1], strict=True)]
    return torch.stack([torch.tensor(float("inf"), device=features.device), *change])
