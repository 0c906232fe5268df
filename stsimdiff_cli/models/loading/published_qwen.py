"""Published configurations of Qwen's own vision-language models, written from sizes."""

from __future__ import annotations

from typing import Any

from .published import CHATML, CLIP, HALF, QWEN, Preset, chatml, frames, rope

#: Token ids that config.json names, and what the tokenizer calls those tokens.
QWEN_VL = {
    "vision_start_token_id": 151652,
    "vision_end_token_id": 151653,
    "image_token_id": 151655,
    "video_token_id": 151656,
}
_NAMES = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
_SPECIAL = CHATML | dict(zip(_NAMES, QWEN_VL.values(), strict=True))
_TEMPLATE = chatml("<|vision_start|><|video_pad|><|vision_end|>")
_TOKENS = "native resolution, two frames a slot"


def qwen2_5_vl(checkpoint: str, text: dict[str, Any]) -> Preset:
    """Qwen2.5-VL: one vision encoder for all sizes, and a Qwen2.5 with three-part rotary positions."""
    grid = {"patch_size": 14, "temporal_patch_size": 2}
    positions = rope(1e6, mrope_section=[16, 24, 24])
    config = {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        **QWEN_VL,
        "tie_word_embeddings": text["tie_word_embeddings"],
        "vision_config": {
            "model_type": "qwen2_5_vl_vision",
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "out_hidden_size": text["hidden_size"],
            **grid,
            "spatial_merge_size": 2,
            "tokens_per_second": 2,
            "window_size": 112,
            "fullatt_block_indexes": [7, 15, 23, 31],
        },
        "text_config": {
            "model_type": "qwen2_5_vl_text",
            "max_position_embeddings": 128000,
            **QWEN,
            **positions,
            **text,
        },
    }
    settings = frames(CLIP, min_pixels=3136, max_pixels=12845056, merge_size=2, **grid)
    files = {"preprocessor_config.json": settings}
    return Preset(checkpoint, _TOKENS, config, files, _SPECIAL, "<|im_end|>", _TEMPLATE)


#: Qwen3-VL's vision encoders: one in its two smallest models, another in the rest.
LARGE = {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "deepstack_visual_indexes": [5, 11, 17]}
SO400M = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "deepstack_visual_indexes": [8, 16, 24]}


def qwen3_vl(checkpoint: str, vision: dict[str, Any], text: dict[str, Any]) -> Preset:
    """Qwen3-VL: a SigLIP 2 whose inner layers feed the LLM too, and a Qwen3 with interleaved positions."""
    grid = {"patch_size": 16, "temporal_patch_size": 2}
    positions = rope(5e6, mrope_section=[24, 20, 20], mrope_interleaved=True)
    ids = {"bos_token_id": 151643, "eos_token_id": 151645}
    config = {
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "model_type": "qwen3_vl",
        **QWEN_VL,
        "tie_word_embeddings": text["tie_word_embeddings"],
        "vision_config": {
            "model_type": "qwen3_vl",  # as published; transformers reads it as qwen3_vl_vision
            **vision,
            "num_heads": 16,
            "out_hidden_size": text["hidden_size"],
            **grid,
            "spatial_merge_size": 2,
            "num_position_embeddings": 2304,
        },
        "text_config": {
            "model_type": "qwen3_vl_text",
            "max_position_embeddings": 262144,
            "rms_norm_eps": 1e-06,
            "head_dim": 128,
            **ids,
            **positions,
            **text,
        },
    }
    images = frames(HALF, size={"shortest_edge": 65536, "longest_edge": 16777216}, merge_size=2, **grid)
    videos = frames(HALF, size={"shortest_edge": 4096, "longest_edge": 25165824}, merge_size=2, **grid)
    files = {"preprocessor_config.json": images, "video_preprocessor_config.json": videos}
    tokens = f"{_TOKENS}, each slot's time in words before it"
    return Preset(checkpoint, tokens, config, files, _SPECIAL, "<|im_end|>", _TEMPLATE)
