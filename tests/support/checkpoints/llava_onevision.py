"""A tiny random checkpoint of LLaVA-OneVision, in the layout in which it is published."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration

from tests.support.checkpoints.parts import SPECIAL, TEXT, TURNS, VOCABULARY, save_model, save_word_tokenizer


def llava_onevision_checkpoint(folder: Path, seed: int = 0) -> Path:
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
    save_model(LlavaOnevisionForConditionalGeneration(config), folder)
    save_word_tokenizer(folder, VOCABULARY, SPECIAL[2:])
    (folder / "chat_template.jinja").write_text(TURNS.replace("VIDEO", "<video>\n"))
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
