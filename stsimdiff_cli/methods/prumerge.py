"""PruMerge and PruMerge+: salient tokens, each with its nearest neighbours merged into it."""

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
class PruMerge(Method):
    """LLaVA-PruMerge (Shang et al., ICCV 2025, arXiv 2403.15388); the authors' code is 42Shawn/LLaVA-PruMerge.

    Every slot of the grid corresponds to an image of the original. Its most salient tokens are the centres. The 32
    nearest other tokens by cosine of keys (16 in the authors' training code), centres or not, are added to a centre
    x_i, each times its attention: x_i + sum a_j x_j, not divided by sum a_j. One extra token is the sum of a_j x_j over
    all tokens that are not centres. A merged token has the position of its centre. Where we differ:

    1. The original keeps as many centres as there are outliers of attention (above Q3 + 1.5 IQR). Here a slot has its
       share of ceil(r N) tokens; the extra token is one of them, so there are share - 1 centres.
    2. The original puts the extra token last. Here it has the position of the most salient token that is not a centre,
       its largest term, so that it has a place in the video. A slot with a share of 1 has a centre and no extra token;
       `extra=off` drops it everywhere (ports do either).
    3. Attention is that of [CLS] where the encoder has one (LLaVA-NeXT-Video, InternVL), as in the original, and what a
       token receives from all tokens of its slot in the others. The original takes attention and keys from the layer
       after the one of the features, as one head over the full width. Here they come from the last layer that the model
       uses, and attention is the mean over heads. The keys of all heads are concatenated.
    4. Attention, keys and features are first pooled or merged to the LLM's grid, and features are projected; the
       original works on patches, before the projector. So that weights mean the same for every family, attention is
       scaled to sum to 1 over a slot (in the original, to 1 minus the attention of [CLS] to itself).
    5. A slot that keeps all its tokens is left as it is, and so is every token at ratio 1.
    6. Cosines closer than 1e-6 are equal, and ties go to the lower index. Tokens are in raster order, not in order of
       attention. If a slot has fewer than 32 other tokens, all of them are merged; the original fails.
    """

    name: ClassVar[str] = "prumerge"
    by_segment: ClassVar[bool] = True

    neighbors: int = parameter(32, "nearest tokens merged into each centre (the authors' code)")
    extra: bool = parameter(True, "one token of each slot is the weighted sum of all that are not centres")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.neighbors < 0:
            raise RequestError(f"neighbors must be at least 0, got {self.neighbors}.", "The default is 32.")

    @property
    def needs(self) -> frozenset[str]:
        """Attention and keys of the vision encoder."""
        return frozenset({"saliency", "keys"})

    def by_saliency(self, weight: Tensor, centers: int) -> int:  # noqa: ARG002
        """How many of a slot's centres are its most salient tokens, by `weight` (n,); the others are evenly spaced."""
        return centers

    def select(self, tokens: VideoTokens, ratio: Ratio, llm: Llm, step: Step) -> Selection:  # noqa: ARG002
        """Choose and merge ceil(r N) tokens."""
        step("merge")
        _, rows, columns = tokens.grid.shape
        area = rows * columns
        features = tokens.features.tensor()  # (T, H, W, D)
        saliency = tokens.evidence["saliency"].tensor()  # (T, H, W)
        keys = tokens.evidence["keys"].tensor().flatten(3)  # (T, H, W, K): all heads concatenated
        index, kept_features = [], []
        salient = spaced = extras = 0
        for t, share in enumerate(slot_budgets(tokens, ratio)):
            extra = int(self.extra and 1 < share < area)
            weight = _to_sum_1(saliency[t].flatten())  # (n,)
            ranked = self.by_saliency(weight, share - extra)
            center = _centers(weight, ranked, share - extra)
            out = features[t].flatten(0, 1)  # (n, D)
            if 0 < share < area:
                merged = self._merged(out.float(), unit_slot(keys, t).flatten(0, 1), weight, center)
                place = torch.cat([center, _most_salient_other(weight, center, extra)])
                out = out.index_copy(0, place, merged[: len(place)].to(out.dtype))
                center = place.sort().values
            index.append(center + t * area)
            kept_features.append(out[center])
            salient, spaced, extras = salient + ranked, spaced + share - extra - ranked, extras + extra
        chosen = plain_selection(tokens, torch.cat(index).cpu(), salient=salient, spaced=spaced, extra=extras)
        return replace(chosen, features=torch.cat(kept_features).cpu())

    def _merged(self, x: Tensor, key: Tensor, weight: Tensor, center: Tensor) -> Tensor:
        """Every centre with its neighbours, then the extra token: (c + 1, D).

        `x` (n, D) and unit keys (n, K) are those of a slot, `weight` is (n,), `center` (c,).
        """
        similarity = at_resolution(key[center] @ key.T)  # (c, n)
        similarity.scatter_(1, center[:, None], -torch.inf)  # a centre is not its own neighbour
        count = min(self.neighbors, len(x) - 1)
        nearest = stable_topk(similarity, count)  # (c, k)
        share = x.new_zeros(len(center) + 1, len(x))  # (c + 1, n) how much of each token is added
        share[:-1].scatter_(1, nearest, weight[nearest])
        share[-1] = weight.index_fill(0, center, 0)
        added = share @ x
        added[:-1] += x[center]
        return added


@dataclass(frozen=True)
class PruMergePlus(PruMerge):
    """LLaVA-PruMerge+ (Shang et al., ICCV 2025, arXiv 2403.15388); the authors' code is 42Shawn/LLaVA-PruMerge.

    PruMerge with other centres: the outliers of attention in a slot (the tokens above Q3 + 1.5 IQR) and, besides them,
    evenly spaced tokens. Merging and the extra token are as in `prumerge`, with the same differences. In addition:

    1. The original spaces the others by a third of the outliers' mean distance. So the image decides how many tokens it
       keeps, and the code fails with a stride of 0 if more than a third of the tokens are outliers. Here the slot's
       share decides: the outliers come first (the most salient ones if there are too many), and the others fill up.
    2. Ports take every floor(n / share)-th position and cut off the surplus, which leaves out the end of the image.
       Here the f others are numbers floor(i m / f), i = 0 .. f-1, of the m tokens that are not outliers: as in the
       original, the first of them is taken, and the last stretch is as long as every other.
    3. Quartiles are computed in each slot, by linear interpolation. The original computes them over the whole batch,
       which is one image in its evaluation.
    """

    name: ClassVar[str] = "prumerge+"

    def by_saliency(self, weight: Tensor, centers: int) -> int:
        """The number of outliers of attention, at most `centers`."""
        quartiles = weight.new_tensor([0.25, 0.75], dtype=torch.float64)
        low, high = torch.quantile(weight.double(), quartiles)  # Q1, Q3
        return min(int((weight > high + 1.5 * (high - low)).sum()), centers)


def _to_sum_1(saliency: Tensor) -> Tensor:
    """Attention (n,) as weights that sum to 1 over a slot, float32; equal weights if all attention is 0."""
    total = saliency.double().sum()
    return torch.where(total > 0, saliency / total, 1 / len(saliency)).float()


def _centers(weight: Tensor, salient: int, count: int) -> Tensor:
    """(count,) positions, ascending: the `salient` highest weights, and evenly spaced ones of the other tokens."""
    highest = stable_topk(weight, salient)
    rest = _others(len(weight), highest)
    fill = count - salient
    spaced = torch.arange(fill, device=weight.device) * len(rest) // max(fill, 1)
    return torch.cat([highest, rest[spaced]]).sort().values


def _most_salient_other(weight: Tensor, center: Tensor, count: int) -> Tensor:
    """(count,) positions of the most salient tokens that are not centres."""
    rest = _others(len(weight), center)
    return rest[stable_topk(weight[rest], count)]


def _others(count: int, taken: Tensor) -> Tensor:
    """The positions below `count` that are not in `taken`, ascending."""
    free = torch.ones(count, dtype=torch.bool, device=taken.device)
    free[taken] = False
    return free.nonzero().squeeze(1)
