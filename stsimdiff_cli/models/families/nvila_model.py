"""NVILA's parts as one model: SigLIP and Qwen2 from transformers, and NVILA's own projector between them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForImageTextToText, LlavaConfig, LlavaForConditionalGeneration

from .llava import tower_of
from .preprocess import square

#: Projectors by their published names: patches along a side of the square that becomes one token, and the widths of
#: hidden layers as multiples of the width of the tower.
PROJECTORS: dict[str, tuple[int, tuple[int, ...]]] = {
    "mlp_downsample": (2, ()),
    "mlp_downsample_2x2_fix": (2, ()),
    "mlp_downsample_3x3_fix": (3, (3,)),
}


class NvilaConfig(LlavaConfig):
    """LLaVA's configuration with two more entries.

    `projector_type` is a key of PROJECTORS. `scales` is how often the tower's channels are repeated in the projector's
    input: once, or once for each scale of a model that reads images at several scales.
    """

    model_type = "stsimdiff_nvila"
    projector_type: str = "mlp_downsample_2x2_fix"
    scales: int = 1


class SpaceToDepth(nn.Module):
    """(n, P, P, C) patches to (n, H, H, k k C): the k x k patches of a square concatenated, row by row.

    Where k does not divide P, zeros are added below and to the right.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, patches: Tensor) -> Tensor:
        """See the class."""
        missing = -patches.shape[1] % self.side
        x = F.pad(patches, (0, 0, 0, missing, 0, missing))
        x = x.unflatten(2, (-1, self.side)).unflatten(1, (-1, self.side))  # (n, H, k, H, k, C)
        return x.transpose(2, 3).flatten(3)


class NvilaProjector(nn.Module):
    """(n, P, P, C) patches to (n, H, H, D) tokens: space to depth, then layer norms and linear layers with GELU."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        side, hidden = PROJECTORS[config.projector_type]
        width, out = config.vision_config.hidden_size * config.scales, config.text_config.hidden_size
        widths = [width * side**2, *(width * factor for factor in hidden), out]
        layers: list[nn.Module] = [SpaceToDepth(side)]
        for before, after in pairwise(widths):
            layers += [nn.LayerNorm(before), nn.Linear(before, after), nn.GELU()]
        self.steps = nn.Sequential(*layers, nn.Linear(out, out))

    def forward(self, patches: Tensor) -> Tensor:
        """See the class."""
        return self.steps(patches)


class NvilaForConditionalGeneration(LlavaForConditionalGeneration):
    """transformers' LLaVA with another projector; frames enter through `frame_tokens`, not through `forward`."""

    config_class = NvilaConfig
    config: NvilaConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model.multi_modal_projector = NvilaProjector(config)

    def frame_tokens(self, pixels: Tensor) -> Tensor:
        """Tokens (n, H, H, D) of frames (n, 3, height, width), from the last layer of the tower without a norm."""
        tower = tower_of(self)
        patches = square(tower.encoder(inputs_embeds=tower.embeddings(pixels)).last_hidden_state)  # (n, P, P, C)
        return self.model.multi_modal_projector(torch.cat([patches] * self.config.scales, -1))


AutoModelForImageTextToText.register(NvilaConfig, NvilaForConditionalGeneration, exist_ok=True)
