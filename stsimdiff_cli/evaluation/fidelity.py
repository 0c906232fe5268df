"""How well kept tokens stand for all of them: figures that need neither a question nor an answer."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..graph.edges import edge_weights
from ..graph.numerics import RESOLUTION, stable_topk
from ..records import VideoTokens

#: The part of all temporal edges that counts as the largest changes.
LARGEST = 0.01


def coverage(features: Tensor, kept: Tensor, rows: int = 4096) -> float:
    """Mean over all tokens of the best cosine to a kept one; 1 if every token is there or has a twin.

    Parameters as `best_cosines`.
    """
    return float(best_cosines(features, kept, rows).mean())


def best_cosines(features: Tensor, kept: Tensor, rows: int = 4096) -> Tensor:
    """(N,) float32: the best cosine of every token to a kept one.

    features (T, H, W, D) are all tokens, kept (M, D) those of a file; compared in float32, `rows` at a time.
    """
    everything = F.normalize(features.flatten(0, 2).float(), dim=-1)  # (N, D)
    those = F.normalize(kept.float(), dim=-1)  # (M, D)
    best = [(part @ those.T).amax(-1) for part in everything.split(rows)]
    return torch.cat(best).clamp(-1, 1)


def largest_changes(tokens: VideoTokens) -> Tensor:
    """Flat positions (K,) of the later tokens of the largest hundredth of temporal changes (at least one).

    A change is 1 - cosine of a temporal edge (Eq. 2, Eq. 3); ties go to the lower index. Empty if nothing changes.
    """
    change = 1 - edge_weights(tokens.features).later.flatten()  # (T-1) H W
    count = -int(-len(change) * LARGEST // 1)
    order = stable_topk(change, count)
    _, height, width = tokens.grid.shape
    return order[change[order] > RESOLUTION] + height * width


def event_recall(changes: Tensor, index: Tensor) -> float | None:
    """The share of the largest changes whose token is among the kept ones; None if nothing changes."""
    return float(torch.isin(changes, index).float().mean()) if len(changes) else None
