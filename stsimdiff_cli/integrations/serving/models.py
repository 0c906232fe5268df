"""vLLM's model classes, with rows of a compressed file in the place of a video's pixels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from vllm.model_executor.models.llava_next_video import LlavaNextVideoForConditionalGeneration
from vllm.model_executor.models.llava_onevision import LlavaOnevisionForConditionalGeneration
from vllm.model_executor.models.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration
from vllm.model_executor.models.qwen2_vl import Qwen2VLForConditionalGeneration
from vllm.model_executor.models.qwen3_vl import Qwen3VLForConditionalGeneration
from vllm.model_executor.models.utils import WeightsMapper
from vllm.multimodal import MULTIMODAL_REGISTRY

from .processor import Dummies, Info, Processor
from .prompts import laid_out

_with_spans = MULTIMODAL_REGISTRY.register_processor(Processor, info=Info, dummy_inputs=Dummies)

#: As much of vLLM's configuration as says whether a vision encoder is needed.
_NOTHING_SHOWN = SimpleNamespace(
    model_config=SimpleNamespace(
        get_multimodal_config=lambda: SimpleNamespace(get_limit_per_prompt=lambda _: 0),
    )
)


class Stored:
    """Takes what Processor makes of spans. Goes before vLLM's class for the checkpoint."""

    supports_mrope: ClassVar[Literal[True]] = True  # vLLM's interface SupportsMRoPE
    get_language_model: Any  # of vLLM's class
    needs_encoder: ClassVar[bool] = False

    def _mark_tower_model(self, vllm_config: Any, modalities: Any, **settings: Any) -> Any:
        """Leave out the vision encoder, as vLLM does where no prompt may show anything."""
        shown = vllm_config if self.needs_encoder else _NOTHING_SHOWN
        return super()._mark_tower_model(shown, modalities, **settings)  # type: ignore[misc]

    def embed_multimodal(self, features: Any = (), **_: Any) -> list[Tensor]:
        """The rows of each video (M, D), or (M, D + K D) with deepstack features, in the LLM's type."""
        dtype = next(self.get_language_model().parameters()).dtype
        return [self.rows(video.to(dtype)) for video in features]

    def rows(self, features: Tensor) -> Tensor:
        """A row for each placeholder of a span."""
        return features

    def get_mrope_input_positions(self, input_tokens: list[int], mm_features: Any) -> tuple[Tensor, int]:
        """Positions (3, L) of a prompt, and what is added to a later token's number for its position."""
        videos = sorted(mm_features, key=lambda feature: feature.mm_position.offset)
        placed = [
            (video.mm_position.offset, video.data["positions"].data, int(video.data["advance"].data))
            for video in videos
        ]
        positions = laid_out(len(input_tokens), placed)
        return positions, int(positions[0, -1]) + 1 - len(input_tokens)


@_with_spans
class Qwen2VL(Stored, Qwen2VLForConditionalGeneration):
    """Qwen2-VL."""


@_with_spans
class Qwen25VL(Stored, Qwen2_5_VLForConditionalGeneration):
    """Qwen2.5-VL."""


@_with_spans
class Qwen3VL(Stored, Qwen3VLForConditionalGeneration):
    """Qwen3-VL; vLLM too puts deepstack features after a token's own, and takes them only next to an encoder."""

    needs_encoder: ClassVar[bool] = True


@_with_spans
class LlavaOnevision(Stored, LlavaOnevisionForConditionalGeneration):
    """LLaVA-OneVision."""

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        # vLLM counts it as a part of the vision encoder, which is left out.
        self.image_newline = nn.Parameter(torch.empty(self.config.text_config.hidden_size))

    def rows(self, features: Tensor) -> Tensor:
        """The learned newline stands after the last token."""
        return torch.cat([features, self.image_newline.to(features)[None]])


@_with_spans
class LlavaNextVideo(Stored, LlavaNextVideoForConditionalGeneration):
    """LLaVA-NeXT-Video."""


@_with_spans
class LlavaVideo(Stored, LlavaOnevisionForConditionalGeneration):
    """LLaVA-Video in its authors' format: the parts of LLaVA-OneVision under other names. Newlines are tokens."""

    hf_to_vllm_mapper: ClassVar[WeightsMapper] = WeightsMapper(
        orig_to_new_prefix={
            "model.layers.": "language_model.model.layers.",
            "model.embed_tokens.": "language_model.model.embed_tokens.",
            "model.norm.": "language_model.model.norm.",
            "lm_head.": "language_model.lm_head.",
            "model.vision_tower.": "vision_tower.",
            "model.mm_projector.": "multi_modal_projector.",
            "model.image_newline": "image_newline",
        }
    )
