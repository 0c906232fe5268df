"""FastVID: salient tokens, and density peaks of some slots into which the rest of a segment is merged."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ..errors import RequestError
from ..graph.clusters import density_peaks, mean_square, segments, squared_distances
from ..graph.numerics import at_resolution, stable_topk, unit_slot
from ..ratio import Ratio, shares
from ..records import Selection, VideoTokens
from .base import Llm, Method, Step, parameter, plain_selection, slot_budgets

#: Nearest tokens that make the density of a token (the code's constant).
_NEIGHBORS = 4


@dataclass(frozen=True)
class FastVID(Method):
    """FastVID (Shen et al., NeurIPS 2025, arXiv 2503.11187); the authors' code is LunarShen/FastVID.

    The video is cut into segments (DySeg: see `segments`). A slot keeps its most salient tokens (ATS), all of its
    budget but the share `context`. With the rest of a segment's budget (DTM), its last slot and every fourth before it
    keep density peaks of their other tokens as anchors. Into the anchors of each such slot, all other tokens of the
    segment are merged: an anchor becomes w times itself plus 1 - w times the mean of the tokens whose cosine with it is
    the highest, itself included, where w is 1 / (1 + their number), at least `beta`. An anchor keeps its position.

    - The budget is ceil(r N), of which slots have even shares. The code keeps floor(r n) of the n tokens of a frame,
      and rounds the anchors of a slot down. Where the numbers divide evenly, ours are the same.
    - If the anchors of a segment do not fit into its slots (at about r > 0.45, where the code fails), more of its slots
      have anchors.
    - Segments are cut by the means of the features, as in the code for Qwen2.5-VL, and salience is the attention that a
      token receives. For LLaVA the code takes both from SigLIP's pooling head, which those models do not use.
    - The code for Qwen2.5-VL also leaves frames out of a segment's merging that are too alike; the paper and the code
      for LLaVA do not, and neither does this.
    - Euclidean distances are in units of the root mean square of the video's features, so that their scale does not
      matter; the code takes them as they are, and adds random noise of 1e-6 to densities. Here the lower index is the
      denser of two. Cosines closer than 1e-6 are equal, and ties go to the lower index.
    - Tokens of a newline column are tokens like any other.
    - Where budgets divide evenly, ours keeps the tokens of the code (a40a109) without its noise: see docs/methods.md.
    """

    name: ClassVar[str] = "fastvid"

    context: float = parameter(0.4, "share of a slot's budget that is merged into (d; the code's)")
    every: int = parameter(4, "one of so many slots of a segment has anchors (p; the code's)")
    beta: float = parameter(0.6, "least weight of an anchor in what it becomes (the code's)")
    segments: int = parameter(8, "segments at least (c; the code's)")
    cut: float = parameter(0.9, "cosine of two slots' means below which a segment ends (tau; the code's for LLaVA)")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value, low in (("context", self.context, 0), ("beta", self.beta, 0), ("cut", self.cut, -1)):
            if not low <= value <= 1:
                default = type(self).__dataclass_fields__[name].default
                raise RequestError(f"{name} must be between {low} and 1, got {value}.", f"The default is {default}.")
        if self.every < 1 or self.segments < 1:
            raise RequestError(
                f"every and segments must be at least 1, got {self.every} and {self.segments}.",
                "The defaults are every=4,segments=8.",
            )

    @property
    def needs(self) -> frozenset[str]:
        """Attention in the vision encoder."""
        return frozenset({"saliency"})

    def select(self, tokens: VideoTokens, ratio: Ratio, llm: Llm, step: Step) -> Selection:  # noqa: ARG002
        """Choose and merge ceil(r N) tokens."""
        _, rows, columns = tokens.grid.shape
        area, budget = rows * columns, slot_budgets(tokens, ratio)
        if sum(budget) == tokens.grid.tokens:
            return plain_selection(tokens, torch.arange(sum(budget)))
        step("segment")
        features = tokens.features.tensor()  # (T, H, W, D)
        saliency = tokens.evidence["saliency"].tensor().flatten(1)  # (T, n)
        spans = segments(features, self.cut, self.segments)
        square = mean_square(features)
        step("merge")
        anchors = [math.floor(share * Fraction(str(self.context))) for share in budget]
        index, kept_features = [], []
        for span in spans:
            flat = features[span.start : span.stop].flatten(1, 2)  # (F, n, D)
            keep = torch.zeros(flat.shape[:2], dtype=torch.bool, device=flat.device)
            for slot, t in enumerate(span):
                keep[slot, stable_topk(saliency[t], budget[t] - anchors[t])] = True
            unit = torch.stack([unit_slot(features, t).flatten(0, 1) for t in span])[~keep]  # (l, D)
            place, merged = [keep.flatten().nonzero().squeeze(1)], [flat[keep]]
            others = flat[~keep].float()  # (l, D)
            sizes = (~keep).sum(1).tolist()
            for slot, count in enumerate(self._anchors(sizes, sum(anchors[t] for t in span))):
                if count:
                    begin = sum(sizes[:slot])
                    x = others[begin : begin + sizes[slot]]  # (m, D)
                    peaks = density_peaks(squared_distances(x, x, square), _NEIGHBORS, count).sort().values
                    place.append((~keep[slot]).nonzero().squeeze(1)[peaks] + slot * area)
                    merged.append(self._merged(others, unit, peaks + begin).to(flat.dtype))
            where = torch.cat(place)
            order = where.sort().indices
            index.append(where[order] + span.start * area)
            kept_features.append(torch.cat(merged)[order])
        counts = {"salient": sum(budget) - sum(anchors), "merged_into": sum(anchors), "segments": len(spans)}
        return replace(
            plain_selection(tokens, torch.cat(index).cpu(), **counts), features=torch.cat(kept_features).cpu()
        )

    def _anchors(self, sizes: list[int], total: int) -> list[int]:
        """How many anchors each slot of a segment has, `total` in all; `sizes` are the tokens that may become one."""
        for every in range(self.every, 0, -1):
            room = [size if (len(sizes) - 1 - slot) % every == 0 else 0 for slot, size in enumerate(sizes)]
            if sum(room) >= total:
                return shares(total, room)
        raise ValueError(f"expected at most {sum(sizes)} anchors, got {total}")

    def _merged(self, x: Tensor, unit: Tensor, anchor: Tensor) -> Tensor:
        """What the anchors (c,) become (c, D), from features `x` (l, D) and unit vectors `unit` (l, D)."""
        similarity = at_resolution(unit @ unit[anchor].T)  # (l, c)
        member = one_hot(similarity.argmax(1), len(anchor)).to(x.dtype)  # (l, c)
        number = member.sum(0)[:, None]  # (c, 1)
        weight = (1 / (number + 1)).clamp_min(self.beta)
        weight = torch.where(number > 0, weight, 1)
        return weight * x[anchor] + (1 - weight) * (member.T @ x / number.clamp_min(1))
