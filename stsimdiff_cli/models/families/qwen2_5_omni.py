"""Qwen2.5-Omni (Xu et al., 2025), without sound: the vision encoder and the LLM of its thinker."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import torch
import transformers
from torch import Tensor
from transformers import AutoConfig, PretrainedConfig

from ...records import TokenGrid
from .qwen2_5_vl import Qwen25VL


class Qwen25Omni(Qwen25VL):
    """Frames as in Qwen2.5-VL; a second of video is 25 time positions. The sound of a video is not read.

    Only the thinker is loaded, which answers in text. The authors' code for videos is that of Qwen2.5-VL
    (`qwen_omni_utils`). Their processor takes a slot to last 1 s unless it is told the rate of the frames; here it has
    its true length, as if it had been told.
    """

    name: ClassVar[str] = "qwen2_5_omni"

    @classmethod
    def can_run(cls) -> bool:
        """Parts of the thinker stood elsewhere before."""
        return "Qwen2_5OmniThinkerModel" in dir(transformers)

    @cached_property
    def config(self) -> PretrainedConfig:
        """That of the thinker."""
        config: Any = AutoConfig.from_pretrained(self.checkpoint.path, trust_remote_code=False)
        thinker: PretrainedConfig = config.thinker_config
        return thinker

    def key_projection(self, model: Any) -> Any:
        """Keys have a projection of their own."""
        return self.last_attention(model).k

    def keys(self, model: Any, inputs: Tensor) -> Tensor:
        """All that this projection gives."""
        return self.key_projection(model)(inputs)

    def positions(self, model: Any, ids: Tensor, visual: Tensor, grid: TokenGrid) -> Tensor:  # noqa: ARG002
        """(4, L): running text positions, then time, row and column from the model's own `get_rope_index`.

        On the CPU, where transformers makes the positions of text whatever device the ids are on.
        """
        t, h, w = grid.shape
        three, _ = model.model.get_rope_index(
            input_ids=ids[None].cpu(),
            attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
            video_grid_thw=torch.tensor([[t, h * self._merge, w * self._merge]]),
            second_per_grids=torch.tensor([self.seconds_per_slot(grid)]),
        )
        return torch.cat([torch.arange(len(ids))[None], three[:, 0]]).to(ids.device)
