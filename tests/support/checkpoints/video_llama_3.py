"""A tiny random checkpoint of VideoLLaMA 3, in transformers' layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import VideoLlama3Config, VideoLlama3ForConditionalGeneration

from tests.support.checkpoints.parts import SPECIAL, TEXT, TURNS, VOCABULARY, extended, save_model, save_word_tokenizer

_OWN = ["<|image_pad|>", "<|video_pad|>"]
_TIMES = ["Time", ".", ":", ",", *(str(i) for i in range(20)), *(f"{i}s" for i in range(10))]
LLAMA_VOCABULARY = extended(VOCABULARY, [*_OWN, *_TIMES])


def video_llama_3_checkpoint(folder: Path, seed: int = 1, **settings: Any) -> Path:
    """VideoLLaMA 3 in small: 4-pixel patches, one frame a slot; `settings` of the processor.

    At most 11520 pixels a video: seven frames become smaller than one. With the weights of seed 0 nearly all tokens are
    alike.
    """
    config = VideoLlama3Config(
        text_config={
            **TEXT,
            "model_type": "qwen2",
            "vocab_size": len(LLAMA_VOCABULARY),
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
        },
        vision_config={
            "num_hidden_layers": 3,
            "hidden_size": 32,
            "num_attention_heads": 2,
            "intermediate_size": 48,
            "patch_size": 4,
            "initializer_range": 0.6,  # larger than elsewhere: its patches have no positions of their own
        },
        image_token_id=LLAMA_VOCABULARY["<|image_pad|>"],
        video_token_id=LLAMA_VOCABULARY["<|video_pad|>"],
        tie_word_embeddings=False,
    )
    torch.manual_seed(seed)
    save_model(VideoLlama3ForConditionalGeneration(config), folder)
    named = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}
    save_word_tokenizer(folder, LLAMA_VOCABULARY, [*SPECIAL[2:], *_OWN], **named)
    (folder / "chat_template.jinja").write_text(TURNS.replace("VIDEO", "<|video_pad|>\n"))
    processor = {
        "size": {"shortest_edge": 16 * 16, "longest_edge": 5 * 48 * 48},
        "patch_size": 4,
        "temporal_patch_size": 1,
        "merge_size": 2,
    }
    images = processor | {"merge_size": 1}
    (folder / "preprocessor_config.json").write_text(json.dumps(images))
    (folder / "video_preprocessor_config.json").write_text(json.dumps(processor | settings))
    return folder
