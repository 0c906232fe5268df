"""A tiny random checkpoint of InternVL, in the layout in which it is published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import InternVLConfig, InternVLForConditionalGeneration

from tests.support.checkpoints.parts import SPECIAL, TEXT, TURNS, VOCABULARY, extended, save_model, save_word_tokenizer

FRAMES = ["<img>", "</img>", "<IMG_CONTEXT>", ":", *(f"Frame{i}" for i in range(1, 13))]
INTERNVL_VOCABULARY = extended(VOCABULARY, FRAMES)


def internvl_checkpoint(
    folder: Path, seed: int = 0, vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None
) -> Path:
    """InternVL in small: 24-pixel frames, 6 x 6 patches shuffled to 3 x 3; `vision` and `text` change the two parts."""
    config = InternVLConfig(
        text_config={
            "model_type": "qwen2",
            **TEXT,
            "vocab_size": len(INTERNVL_VOCABULARY),
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
            **(text or {}),
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "attention_bias": True,
            "image_size": [24, 24],
            "patch_size": [4, 4],
            "initializer_range": 0.3,
            "layer_scale_init_value": 1.0,
            **(vision or {}),
        },
        image_token_id=INTERNVL_VOCABULARY["<IMG_CONTEXT>"],
        image_seq_length=9,
        tie_word_embeddings=False,
    )
    torch.manual_seed(seed)
    model = InternVLForConditionalGeneration(config)
    for name, parameter in model.model.vision_tower.named_parameters():
        if name.endswith(("cls_token", "position_embeddings", "k_norm.weight")):  # else zeros, or ones
            torch.nn.init.normal_(parameter)
    save_model(model, folder)
    save_word_tokenizer(
        folder,
        INTERNVL_VOCABULARY,
        [*SPECIAL[2:], *FRAMES[:3]],
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )
    (folder / "chat_template.jinja").write_text(TURNS.replace("VIDEO", "<video>\n"))
    settings = {
        "size": {"height": 24, "width": 24},
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "resample": 3,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "rescale_factor": 1 / 255,
    }
    settings |= {"crop_to_patches": False, "do_center_crop": None, "image_processor_type": "GotOcr2ImageProcessorFast"}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder
