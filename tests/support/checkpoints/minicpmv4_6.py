"""A tiny random checkpoint of MiniCPM-V 4.6, in the layout in which it is published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import MiniCPMV4_6Config, MiniCPMV4_6ForConditionalGeneration

from tests.support.checkpoints.parts import SPECIAL, TEXT, TURNS, VOCABULARY, extended, save_model, save_word_tokenizer
from tests.support.checkpoints.qwen3_5 import HYBRID

#: Special tokens by the names that its processor asks the tokenizer for.
NAMED = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "image_start_token": "<image>",
    "image_end_token": "</image>",
    "slice_start_token": "<slice>",
    "slice_end_token": "</slice>",
    "image_id_start_token": "<image_id>",
    "image_id_end_token": "</image_id>",
}
_WORDS = extended(VOCABULARY, sorted(set(NAMED.values()) - {"<image>"}))


def minicpmv4_6_checkpoint(folder: Path, seed: int = 0, **settings: Any) -> Path:
    """MiniCPM-V 4.6 in small: 4-pixel patches, of which 4 x 4 become a token; `settings` of the processor."""
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_interleaved": True, "mrope_section": [2, 2, 2]}
    text = {**TEXT, **HYBRID, "vocab_size": len(_WORDS), "rope_parameters": rope | HYBRID["rope_parameters"]}
    config = MiniCPMV4_6Config(
        text_config={**text, "model_type": "qwen3_5_text"},
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 4,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 4,
        },
        insert_layer_id=1,
        image_token_id=_WORDS["<|image_pad|>"],
        video_token_id=_WORDS["<|video_pad|>"],
    )
    config.vision_config.initializer_range = 0.3
    torch.manual_seed(seed)
    model = MiniCPMV4_6ForConditionalGeneration(config)
    for name, weight in model.model.named_parameters():  # its own start would leave all features nearly the same
        if name.startswith(("vision_tower", "merger")) and weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.3)
    save_model(model, folder)
    save_word_tokenizer(folder, _WORDS, [*SPECIAL[2:], *NAMED.values()], **NAMED)
    (folder / "chat_template.jinja").write_text(TURNS.replace("VIDEO", "<|video_pad|>"))
    processor = {
        "max_slice_nums": 9,
        "scale_resolution": 48,
        "patch_size": 4,
        "use_image_id": True,
        "slice_mode": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor | settings))
    return folder
