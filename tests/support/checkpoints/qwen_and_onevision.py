"""Tiny random checkpoints in the real layout: sharded safetensors, processor files, tokenizer, chat template."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import (
    GenerationConfig,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)

from tests.support.checkpoints.llava_video import llava_video_checkpoint
from tests.support.checkpoints.more import internvl_checkpoint, qwen2_vl_checkpoint, word_tokenizer
from tests.support.checkpoints.nvila import nvila_checkpoint
from tests.support.checkpoints.parts import SPECIAL, TEXT, TURNS, VOCABULARY
from tests.support.checkpoints.qwen3_vl import qwen3_vl_checkpoint, qwen3_vl_moe_checkpoint
from tests.support.checkpoints.video import llava_next_video_checkpoint, smolvlm_checkpoint

QWEN_TEMPLATE = TURNS.replace("VIDEO", "<|vision_start|><video><|vision_end|>")
LLAVA_TEMPLATE = TURNS.replace("VIDEO", "<video>\n")


def qwen_checkpoint(folder: Path, seed: int = 0) -> Path:
    """Qwen2.5-VL in small: 4-pixel patches, two frames a slot, windows of 16 pixels, one full-attention block."""
    config = Qwen2_5_VLConfig(
        text_config={
            **TEXT,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 2, 2]},
        },
        vision_config={
            "depth": 3,
            "hidden_size": 32,
            "num_heads": 2,
            "intermediate_size": 48,
            "out_hidden_size": 48,
            "patch_size": 4,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "tokens_per_second": 2,
            "window_size": 16,
            "fullatt_block_indexes": [2],
            "initializer_range": 0.3,
        },
        video_token_id=VOCABULARY["<video>"],
        image_token_id=VOCABULARY["<image>"],
        vision_start_token_id=VOCABULARY["<|vision_start|>"],
        vision_end_token_id=VOCABULARY["<|vision_end|>"],
    )
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(config)
    # The hub's Qwen2.5-VL asks for a repetition penalty: it must be honoured over prompt and answer alike.
    model.generation_config = GenerationConfig(
        eos_token_id=TEXT["eos_token_id"], pad_token_id=TEXT["pad_token_id"], repetition_penalty=1.05
    )
    model.save_pretrained(folder, max_shard_size="40KB")
    _tokenizer(folder)
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": QWEN_TEMPLATE}))
    settings = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "patch_size": 4,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "min_pixels": 16 * 16,
        "max_pixels": 40 * 40,
        "size": {"shortest_edge": 16 * 16, "longest_edge": 40 * 40},
        "image_mean": [0.48, 0.46, 0.41],
        "image_std": [0.27, 0.26, 0.28],
        "resample": 3,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "rescale_factor": 1 / 255,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def llava_checkpoint(folder: Path, seed: int = 0) -> Path:
    """LLaVA-OneVision in small: 28-pixel frames, 7 x 7 patches pooled to 4 x 4."""
    config = LlavaOnevisionConfig(
        text_config={"model_type": "qwen2", **TEXT, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 4,
            "vision_use_head": False,
        },
        video_token_index=VOCABULARY["<video>"],
        image_token_index=VOCABULARY["<image>"],
    )
    torch.manual_seed(seed)
    model = LlavaOnevisionForConditionalGeneration(config)
    model.generation_config = GenerationConfig(eos_token_id=TEXT["eos_token_id"], pad_token_id=TEXT["pad_token_id"])
    model.save_pretrained(folder, max_shard_size="40KB")
    _tokenizer(folder)
    (folder / "chat_template.jinja").write_text(LLAVA_TEMPLATE)
    settings = {
        "size": {"height": 28, "width": 28},
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "resample": 3,
        "rescale_factor": 1 / 255,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps({**settings, "size": {"height": 9, "width": 9}}))
    (folder / "video_preprocessor_config.json").write_text(json.dumps(settings))
    return folder


CHECKPOINTS = {
    "qwen2_5_vl": qwen_checkpoint,
    "llava_onevision": llava_checkpoint,
    "qwen2_vl": qwen2_vl_checkpoint,
    "qwen3_vl": qwen3_vl_checkpoint,
    "qwen3_vl_moe": qwen3_vl_moe_checkpoint,
    "internvl": internvl_checkpoint,
    "llava_next_video": llava_next_video_checkpoint,
    "smolvlm": smolvlm_checkpoint,
    "llava_video": llava_video_checkpoint,
    "nvila": nvila_checkpoint,
}


def _tokenizer(folder: Path) -> None:
    word_tokenizer(folder, VOCABULARY, SPECIAL[2:])
