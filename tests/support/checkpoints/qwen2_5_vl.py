"""A tiny random checkpoint of Qwen2.5-VL, in the layout in which it is published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from tests.support.checkpoints.parts import SPECIAL, TEXT, TURNS, VOCABULARY, save_model, save_word_tokenizer


def qwen2_5_vl_checkpoint(folder: Path, seed: int = 0, **preprocessing: Any) -> Path:
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
    # The published Qwen2.5-VL has a repetition penalty, which applies to prompt and answer alike.
    save_model(model, folder, repetition_penalty=1.05)
    save_word_tokenizer(folder, VOCABULARY, SPECIAL[2:])
    template = TURNS.replace("VIDEO", "<|vision_start|><video><|vision_end|>")
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
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
        "cap_pixels_per_frame": False,  # the bounds hold for videos too, which keeps frames small
        **preprocessing,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder
