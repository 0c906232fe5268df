"""VidCom2: tokens that stand out from their frame and from the video, more of them where the frame stands out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import RequestError
from ..graph.numerics import at_resolution, stable_topk, top_by_score, unit_slot
from ..ratio import Ratio
from ..records import Selection, VideoTokens
from .base import Llm, Method, Step, parameter, plain_selection

#: The scales of the Gaussian similarity exp(-d^2 / 2a), which are summed (the code's constants).
_SCALES = (1 / 8, 1 / 4, 1 / 2, 1, 2)


@dataclass(frozen=True)
class VidCom2(Method):
    """VidCom2 (Liu et al., EMNLP 2025, "Video Compression Commander"); code: xuyang-liu16/VidCom2.

    Tokens are unit vectors over the half of the channels that varies least over the video. v and f are the Gaussian
    similarities of a token to the mean of all tokens and to the mean of its frame. A frame's weight is 1 + p - mean(p),
    where p is the softmax over frames of -mean(v) / temperature. A frame keeps the tokens with the smallest v + f.

    - A frame is a slot of the grid.
    - The code keeps round(r weight H W) tokens of a frame, at least 1 and at most all, which is only about r N in sum.
      Here ceil(r N) is divided among the frames in proportion to the same weights: what a full frame cannot take goes
      to the others, every frame gets at least 1 if there are as many tokens as frames, and the largest remainders are
      rounded up (ties: the earlier frame). If the code's counts add up to the budget and none is clamped, ours are the
      same.
    - Only cells that show a part of the picture are scored, as in the code. The code keeps LLaVA-Video's newline column
      in addition to the budget. Here its tokens count in N, and the budget is the picture's: they are kept only after
      every cell of the picture, in raster order.
    - Unit vectors and sums are in float64, and v + f is compared at `numerics.RESOLUTION`; ties go to the lower index.
      The code computes in the model's type and leaves ties to top-k.
    - Variances within a relative 1e-6 of each other are ties and go to the lower channel. At least one channel is used.
    """

    name: ClassVar[str] = "vidcom2"

    channel_ratio: float = parameter(0.5, "share of the channels that is compared, those that vary least (the code's)")
    temperature: float = parameter(
        0.01, "of the softmax over frames: lower values favour the most distinct frame (the code's)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.channel_ratio <= 1:
            raise RequestError(
                f"channel_ratio must be above 0 and at most 1, got {self.channel_ratio}.", "The default is 0.5."
            )
        if not 0 < self.temperature < math.inf:
            raise RequestError(f"temperature must be above 0, got {self.temperature}.", "The default is 0.01.")

    def select(self, tokens: VideoTokens, ratio: Ratio, llm: Llm, step: Step) -> Selection:  # noqa: ARG002
        """Choose ceil(r N) tokens."""
        slots, rows, columns = tokens.grid.shape
        width = columns - tokens.grid.coverage.blank_columns  # P columns of the picture
        cells = torch.arange(tokens.grid.tokens).view(slots, rows, columns)
        budget = ratio.budget(tokens.grid.tokens)
        step("scores")
        to_video, to_frame = self._similarities(tokens.features.tensor()[:, :, :width])  # (T, H P) each
        step("select")
        common = to_video.mean(dim=1).cpu()  # (T,) how similar a frame is to the whole video
        distinct = torch.softmax((common.min() - common) / self.temperature, dim=0)  # (T,) p
        area = rows * width
        share = bounded_shares(1 + distinct - 1 / slots, min(budget, slots * area), area)
        slot = torch.arange(slots, device=to_video.device).repeat_interleave(area)  # (T H P,)
        keep = top_by_score(-(to_video + to_frame).flatten(), slot, share.to(slot.device)).cpu()
        picture = cells[:, :, :width].flatten()[keep]
        newlines = cells[:, :, width:].flatten()[: budget - len(picture)]
        index = torch.cat([picture, newlines]).sort().values
        return plain_selection(tokens, index, fewest_in_slot=int(share.min()), most_in_slot=int(share.max()))

    def _similarities(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """v and f of every token, float64 (T, H W) each."""
        count = max(1, math.floor(features.shape[-1] * Fraction(str(self.channel_ratio))))
        low = features[..., least_varying(features, count)]  # (T, H, W, C)
        frames = range(len(low))
        mean = torch.stack([unit_slot(low, t, torch.float64).mean((0, 1)) for t in frames])  # (T, C)
        to_video, to_frame = [], []
        for t in frames:
            x = unit_slot(low, t, torch.float64).flatten(0, 1)  # (H W, C)
            to_video.append(gaussian(x, mean.mean(0)))
            to_frame.append(gaussian(x, mean[t]))
        return torch.stack(to_video), torch.stack(to_frame)


def least_varying(features: Tensor, count: int) -> Tensor:
    """The `count` channels of lowest variance over all tokens of `features` (T, H, W, D), ascending."""
    origin = features[0, 0, 0].double()  # (D,) differences from it are exactly 0 in a constant channel
    mean = torch.zeros_like(origin)
    spread = torch.zeros_like(origin)
    for slot in features:
        mean += (slot.double() - origin).sum((0, 1)) / (features.numel() // len(origin))
    for slot in features:
        spread += (slot.double() - origin - mean).square().sum((0, 1))
    if not bool(torch.isfinite(spread).all()):
        for t in range(len(features)):
            unit_slot(features, t)  # names the token that is not finite
    largest = spread.max()
    relative = torch.log(spread / torch.where(largest > 0, largest, 1))
    return stable_topk(-at_resolution(relative), count).sort().values


def gaussian(x: Tensor, centre: Tensor) -> Tensor:
    """Gaussian similarity (n,) of every row of `x` (n, C) to `centre` (C,), summed over _SCALES."""
    distance = (x - centre).square().sum(-1, keepdim=True)  # (n, 1) squared
    return torch.exp(-distance / (2 * torch.tensor(_SCALES, dtype=x.dtype, device=x.device))).sum(-1)


def bounded_shares(weight: Tensor, total: int, size: int) -> Tensor:
    """Whole numbers (T,) that add up to `total`, in proportion to `weight` (T,), each at most `size`.

    Each is at least 1 if `total` allows. The exact shares are min(size, max(least, level x weight)); bisection finds
    the level. They are rounded down, and the largest remainders are rounded up until the sum is right. Weights are at
    least 1/2.
    """
    least = int(total >= len(weight))
    low, high = 0.0, 2.0 * size
    for _ in range(100):  # to the last bit
        level = (low + high) / 2
        below = float((level * weight).clamp(least, size).sum()) < total
        low, high = (level, high) if below else (low, level)
    exact = (low * weight).clamp(least, size)  # (T,) adds up to `total`, or slightly less by rounding
    share = exact.floor().long()
    share[stable_topk(at_resolution(exact - share), total - int(share.sum()))] += 1
    return share
