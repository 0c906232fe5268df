"""A tiny random checkpoint of Qwen2.5-VL, in the layout in which it is published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from tests.support.checkpoints.parts import (
    MROPE,
    QWEN2_PROCESSOR,
    SPECIAL,
    STEPS,
    TEXT,
    TURNS,
    VOCABULARY,
    WINDOWS,
    save_model,
    save_word_tokenizer,
)


def qwen2_5_vl_checkpoint(folder: Path, seed: int = 0, **preprocessing: Any) -> Path:
    """Qwen2.5-VL in small: 4-pixel patches, two frames a slot, windows of 16 pixels, one full-attention block."""
    config = Qwen2_5_VLConfig(
        text_config=TEXT | {"rope_parameters": MROPE},
        vision_config=WINDOWS | {"tokens_per_second": 2},
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
    size = {"shortest_edge": 16 * 16, "longest_edge": 40 * 40}
    settings = QWEN2_PROCESSOR | STEPS | {"size": size} | preprocessing
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder
