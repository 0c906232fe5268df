"""EVS: what has not changed since the previous frame need not be repeated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..graph.numerics import at_resolution, stable_topk, unit_slot
from ..ratio import Ratio
from ..records import Selection, VideoTokens
from .base import Llm, Method, Step, plain_selection


@dataclass(frozen=True)
class Evs(Method):
    """Efficient Video Sampling (Bagrov et al., 2025, arXiv 2510.14624); code: vllm-project/vllm, multimodal/evs.py.

    The difference of a token is 1 minus its cosine to the token of the same cell one slot earlier. The whole first slot
    is kept, then the tokens with the largest differences, wherever in the video they are.

    - This is the method as vLLM, SGLang and TensorRT-LLM serve it, on merged tokens; the paper describes it for pixels.
    - The budget is ceil(r N). The code keeps max(H W, floor(N (1 - q))), so never less than the first slot. Where the
      budget is smaller than a slot, ours keeps evenly spaced tokens of the first slot (as `uniform` would choose them)
      and, like the code, nothing of the others: the H W tokens of the first slot all count as infinitely different.
    - Cosines are in float32 and compared at `numerics.RESOLUTION`; the code computes them in the model's type.
    - The original has no newline column. Where a family has one on the grid, its tokens never change, so that those of
      later slots are the last to be kept.
    """

    name: ClassVar[str] = "evs"
    by_segment: ClassVar[bool] = True

    @property
    def lookback(self) -> int:
        """The slot before."""
        return 1

    def select(self, tokens: VideoTokens, ratio: Ratio, llm: Llm, step: Step) -> Selection:  # noqa: ARG002
        """Choose ceil(r N) tokens."""
        _, rows, columns = tokens.grid.shape
        size, budget = rows * columns, ratio.budget(tokens.grid.tokens)
        if tokens.past is None and budget <= size:
            index = (2 * torch.arange(budget) + 1) * size // (2 * budget)
        else:
            step("difference")
            difference = temporal_difference(tokens.features.tensor(), tokens.past).flatten()  # (N,)
            step("select")
            index = stable_topk(at_resolution(difference), budget).sort().values.cpu()
        return plain_selection(tokens, index, first_slot=0 if tokens.past is not None else min(budget, size))


def temporal_difference(features: Tensor, past: Tensor | None = None) -> Tensor:
    """1 - cosine to the same cell one slot earlier, float32 (T, H, W).

    Infinite in the first slot, unless slots `past` (P, H, W, D) come before it.
    """
    difference = features.new_full(features.shape[:3], math.inf, dtype=torch.float32)
    previous = None if past is None else unit_slot(past, len(past) - 1)  # (H, W, D)
    for t in range(len(features)):
        x = unit_slot(features, t)
        if previous is not None:
            difference[t] = 1 - (previous * x).sum(-1)
        previous = x
    return difference
