"""Qwen3-Omni (Xu et al., 2025), without sound: the vision encoder and the LLM of its thinker."""

from __future__ import annotations

from typing import ClassVar

from .qwen2_5_omni import Qwen25Omni
from .qwen2_vl import Qwen2VL
from .qwen3_vl import Qwen3VL


class Qwen3OmniMoe(Qwen25Omni):
    """Prompt and times of Qwen2.5-Omni, the encoder of Qwen3-VL, and positions in time that are fractions.

    The authors' package sizes frames for cells of 28 pixels unless it is told otherwise (`image_patch_size`), and the
    processor then resizes them again. Here they are sized once, for the cells of 32 pixels that this encoder has.
    """

    name: ClassVar[str] = "qwen3_omni_moe"

    encode = Qwen3VL.encode
    key_projection = Qwen2VL.key_projection
    keys = Qwen2VL.keys
    to_grid = Qwen2VL.to_grid
    deepstack_kwargs = Qwen3VL.deepstack_kwargs
