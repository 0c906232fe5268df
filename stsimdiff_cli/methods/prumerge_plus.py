"""PruMerge+: the outliers of attention and evenly spaced tokens, each with its nearest neighbours merged into it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .prumerge import PruMerge


@dataclass(frozen=True)
class PruMergePlus(PruMerge):
    """LLaVA-PruMerge+ (Shang et al., ICCV 2025, arXiv 2403.15388); the authors' code is 42Shawn/LLaVA-PruMerge.

    PruMerge with other centres: the outliers of attention in a slot, which are the tokens above Q3 + 1.5 IQR, and
    evenly spaced tokens beside them. Merging, the extra token and their differences are those of `prumerge`. Also:

    1. The original spaces the others by a third of the outliers' mean distance, so that the image decides how many
       tokens it keeps, and fails with a stride of 0 where more than a third of the tokens are outliers. Here the
       slot's share decides: its outliers come first, the most salient ones if there are too many, and the others
       fill up.
    2. Ports fill with every floor(n / share)-th position and cut off what is too much, which leaves out the end of
       the image. Here the f others are number floor(i m / f), i = 0 .. f-1, of the m tokens that are no outliers: as
       in the original the first token begins, and the last stretch is as long as every other.
    3. Quartiles are taken in each slot, by linear interpolation; the original takes them over the whole batch, which
       is one image when it is evaluated.
    """

    name: ClassVar[str] = "prumerge+"

    def by_saliency(self, weight: Tensor, centers: int) -> int:
        """The outliers of attention, as far as there is room."""
        quartiles = weight.new_tensor([0.25, 0.75], dtype=torch.float64)
        low, high = torch.quantile(weight.double(), quartiles)  # Q1, Q3
        return min(int((weight > high + 1.5 * (high - low)).sum()), centers)
