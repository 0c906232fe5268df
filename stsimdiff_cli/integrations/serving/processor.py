"""What vLLM does with a VideoSpan before it reaches the engine: puts it in its place in the prompt, and names it.

vLLM's processor for the same checkpoints handles pixels; this one handles nothing else than spans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import BatchFeature
from vllm.exceptions import VLLMValidationError
from vllm.multimodal.inputs import MultiModalFieldConfig
from vllm.multimodal.parse import ModalityDataItems, MultiModalDataParser
from vllm.multimodal.processing import (
    BaseDummyInputsBuilder,
    BaseMultiModalProcessor,
    BaseProcessingInfo,
    ProcessorInputs,
    PromptReplacement,
    PromptUpdateDetails,
)

from .prompts import VideoSpan

#: vLLM's rotary embeddings hold this many times the positions that a checkpoint states, where a token has three.
_ROOM = 4


class Spans(ModalityDataItems[Sequence[VideoSpan], VideoSpan]):
    """The videos of one prompt."""

    def get_count(self) -> int:
        """How many there are."""
        return len(self.data)

    def get(self, index: int) -> VideoSpan:
        """One of them."""
        return self.data[index]

    def get_item_for_hash(self, index: int) -> object:
        """By this, vLLM's caches know it."""
        return self.data[index].key

    def get_processor_data(self) -> Mapping[str, object]:
        """Nothing is for a processor of transformers."""
        return {}

    def get_passthrough_data(self) -> Mapping[str, object]:
        """Nothing here, because vLLM would not cache it; see Processor._apply_hf_processor_main."""
        return {}


class Parser(MultiModalDataParser):
    """Takes a VideoSpan, or several, as what vLLM calls a video."""

    def _parse_video_data(self, data: Any) -> Spans:
        spans = [data] if isinstance(data, VideoSpan) else list(data)
        if not all(isinstance(span, VideoSpan) for span in spans):
            raise VLLMValidationError("This server answers questions about compressed files only.", parameter="video")
        return Spans(spans, "video")


class Info(BaseProcessingInfo):
    """What a prompt may hold: videos, each up to the whole context."""

    def get_data_parser(self) -> MultiModalDataParser:
        """Of spans."""
        return Parser()

    def get_supported_mm_limits(self) -> Mapping[str, int | None]:
        """As many videos as the server allows."""
        return {"video": None}

    def get_mm_max_tokens_per_item(self, seq_len: int, mm_counts: Any) -> Mapping[str, int]:  # noqa: ARG002
        """One video may fill the context."""
        return {"video": seq_len}

    @property
    def placeholder(self) -> int:
        """The id that stands for a visual token."""
        config = self.get_hf_config()
        return int(getattr(config, "video_token_id", None) or config.video_token_index)


class Dummies(BaseDummyInputsBuilder[Info]):
    """A video without meaning, with which vLLM warms up."""

    def get_dummy_text(self, mm_counts: Mapping[str, int]) -> str:  # noqa: ARG002
        """Nothing: see Processor.get_dummy_inputs."""
        return ""

    def get_dummy_mm_data(self, seq_len: int, mm_counts: Mapping[str, int], mm_options: Any) -> dict[str, Any]:  # noqa: ARG002
        """Videos of one token each."""
        width = self.info.ctx.model_config.get_inputs_embeds_size()
        place = torch.zeros(3, 1, dtype=torch.int64)
        span = VideoSpan((self.info.placeholder,), torch.zeros(1, width), place, 1, "dummy")
        return {"video": [span] * mm_counts.get("video", 0)}


class Processor(BaseMultiModalProcessor[Info]):
    """Replaces each video's placeholder by its span, and hands features and positions on side by side."""

    def get_dummy_inputs(self, seq_len: int, mm_counts: Mapping[str, int], mm_options: Any) -> ProcessorInputs:
        """One placeholder for each video, as an id, because some have no text."""
        videos = self.dummy_inputs.get_dummy_mm_data(seq_len, mm_counts, mm_options)
        own = [self.info.placeholder] * mm_counts.get("video", 0)
        return ProcessorInputs(own, self.info.parse_mm_data(videos, validate=False))

    def apply(self, inputs: Any, timing_ctx: Any) -> Any:
        """As vLLM does it, after a check: a position beyond the LLM's table would end the engine for everybody."""
        context = self.info.ctx.model_config.hf_text_config.max_position_embeddings
        reach = sum(span.advance for span in inputs.mm_data_items["video"].get_all())
        if reach > (_ROOM - 1) * context:
            raise VLLMValidationError(
                f"The videos of this prompt take {reach:,} positions, and the model allows {(_ROOM - 1) * context:,}.",
                parameter="video",
            )
        return super().apply(inputs, timing_ctx)

    def _apply_hf_processor_main(self, mm_items: Any, hf_kwargs: Mapping[str, object]) -> BatchFeature:  # noqa: ARG002
        """Fields of the spans, under the names of Stored.embed_multimodal and get_mrope_input_positions."""
        spans = mm_items["video"].get_all() if "video" in mm_items else []
        if not spans:
            return BatchFeature()
        return BatchFeature(
            {
                "features": [span.features for span in spans],
                "positions": [span.positions for span in spans],
                "advance": torch.tensor([span.advance for span in spans]),
            }
        )

    def _get_mm_fields_config(self, hf_inputs: Any, hf_processor_mm_kwargs: Any) -> Mapping[str, MultiModalFieldConfig]:  # noqa: ARG002
        return {name: MultiModalFieldConfig.batched("video") for name in hf_inputs}

    def _get_prompt_updates(
        self,
        mm_items: Any,
        hf_processor_mm_kwargs: Any,  # noqa: ARG002
        out_mm_kwargs: Any,  # noqa: ARG002
    ) -> Sequence[PromptReplacement]:
        own = self.info.placeholder

        def span(item: int) -> PromptUpdateDetails:
            return PromptUpdateDetails.select_token_id(list(mm_items["video"].get(item).ids), own)

        return [PromptReplacement(modality="video", target=[own], replacement=span)]
