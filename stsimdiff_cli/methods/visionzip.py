"""VisionZip: dominant tokens by attention, and contextual tokens into which the others are merged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import RequestError
from ..graph.numerics import at_resolution, stable_topk, unit_slot
from ..ratio import Ratio
from ..records import Selection, VideoTokens
from .base import Llm, Method, Step, parameter, plain_selection, slot_budgets


@dataclass(frozen=True)
class VisionZip(Method):
    """VisionZip (Yang et al., CVPR 2025, arXiv 2412.04467); the authors' code is dvlab-research/VisionZip.

    Every slot of the grid corresponds to an image of the original. Its most salient tokens are dominant and stay as
    they are. Of the m others, in raster order, every floor(m / c)-th is a target, for c contextual tokens. Each token
    that is left joins the target with the highest cosine of keys (averaged over heads), and a contextual token is its
    target plus the mean of the tokens that joined it. That is a sum: if any joined, its norm roughly doubles, as
    published. A contextual token has the position of its target. Where we differ:

    1. The original keeps [CLS] as one of its dominant tokens and ranks by its attention. Here all dominant tokens are
       from the grid. They are ranked by the attention of [CLS] where the encoder has one (LLaVA-NeXT-Video, InternVL),
       and by what they receive from all tokens of their slot in the others.
    2. The original has fixed numbers for every image (54 + 10 of 576 in its README). Here they are parts of a slot's
       share of ceil(r N), and the remainder is contextual. One token of a slot is always dominant, unless dominant=0;
       otherwise a share of 1 would be one contextual token.
    3. Attention, keys and features are first pooled or merged to the LLM's grid, and features are projected; the
       original works on patches, before the projector.
    4. Tokens are in raster order; the original puts contextual tokens last.
    5. Cosines closer than 1e-6 are equal, and ties go to the lower index.
    """

    name: ClassVar[str] = "visionzip"
    by_segment: ClassVar[bool] = True

    dominant: int = parameter(54, "parts of the budget that are dominant tokens (the authors' README)")
    contextual: int = parameter(10, "parts of the budget that are contextual tokens (the authors' README)")

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.dominant, self.contextual) < 0 or self.dominant == self.contextual == 0:
            raise RequestError(
                f"dominant and contextual must be at least 0 and not both 0, got {self.dominant} and "
                f"{self.contextual}.",
                "The defaults are dominant=54,contextual=10.",
            )

    @property
    def needs(self) -> frozenset[str]:
        """Attention in the vision encoder, and its keys if anything is merged."""
        return frozenset({"saliency", "keys"} if self.contextual else {"saliency"})

    def select(self, tokens: VideoTokens, ratio: Ratio, llm: Llm, step: Step) -> Selection:  # noqa: ARG002
        """Choose ceil(r N) tokens and merge the others into some of them."""
        step("merge")
        _, rows, columns = tokens.grid.shape
        area = rows * columns
        features = tokens.features.tensor()  # (T, H, W, D)
        saliency = tokens.evidence["saliency"].tensor()  # (T, H, W)
        keys = (
            tokens.evidence["keys"].tensor().float().mean(-2) if self.contextual else None
        )  # (T, H, W, K): over heads
        index, kept_features = [], []
        dominants = 0
        for t, share in enumerate(slot_budgets(tokens, ratio)):
            dominant = self._dominants(share)
            dominants += dominant
            keep = torch.zeros(area, dtype=torch.bool, device=features.device)
            keep[stable_topk(saliency[t].flatten(), dominant)] = True
            out = features[t].flatten(0, 1)  # (n, D)
            if keys is not None and dominant < share:
                rest = (~keep).nonzero().squeeze(1)  # (m,)
                stride = max(1, len(rest) // (share - dominant))
                target = rest[::stride][: share - dominant]  # (c,)
                keep[target] = True
                if share < area:
                    merged = _joined(out.float(), unit_slot(keys, t).flatten(0, 1), target, ~keep)
                    out = out.index_copy(0, target, merged.to(out.dtype))
            kept = keep.nonzero().squeeze(1)
            index.append(kept + t * area)
            kept_features.append(out[kept])
        positions = torch.cat(index).cpu()
        chosen = plain_selection(tokens, positions, dominant=dominants, contextual=len(positions) - dominants)
        return replace(chosen, features=torch.cat(kept_features).cpu())

    def _dominants(self, share: int) -> int:
        """How many of a slot's `share` tokens are dominant."""
        parts = share * self.dominant // (self.dominant + self.contextual)
        return max(parts, 1) if self.dominant and share else parts


def _joined(x: Tensor, key: Tensor, target: Tensor, left: Tensor) -> Tensor:
    """Each target (c,) plus the mean of the tokens `left` (n,) bool that are most similar to it: (c, D).

    `x` (n, D) and unit keys (n, K) are those of a slot.
    """
    similarity = at_resolution(key[left] @ key[target].T)  # (l, c)
    owner = torch.nn.functional.one_hot(similarity.argmax(1), len(target)).to(x.dtype)  # (l, c)
    return x[target] + owner.T @ x[left] / owner.sum(0).clamp_min(1)[:, None]
