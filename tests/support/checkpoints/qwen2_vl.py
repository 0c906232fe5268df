"""A tiny random checkpoint of Qwen2-VL, in the layout in which it is published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

from tests.support.checkpoints.parts import (
    MROPE,
    QWEN2_PROCESSOR,
    SPECIAL,
    STEPS,
    TEXT,
    TURNS,
    VOCABULARY,
    save_model,
    save_word_tokenizer,
)


def qwen2_vl_checkpoint(folder: Path, seed: int = 0, **preprocessing: Any) -> Path:
    """Qwen2-VL in small: 4-pixel patches, two frames a slot; the text settings stand at the top of config.json."""
    config = Qwen2VLConfig(
        text_config=TEXT | {"rope_parameters": MROPE},
        vision_config={
            "depth": 3,
            "embed_dim": 32,
            "num_heads": 2,
            "mlp_ratio": 2,
            "hidden_size": 48,
            "patch_size": 4,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "initializer_range": 0.3,
        },
        video_token_id=VOCABULARY["<video>"],
        image_token_id=VOCABULARY["<image>"],
        vision_start_token_id=VOCABULARY["<|vision_start|>"],
        vision_end_token_id=VOCABULARY["<|vision_end|>"],
        tie_word_embeddings=True,  # as in Qwen2-VL-2B
    )
    torch.manual_seed(seed)
    save_model(Qwen2VLForConditionalGeneration(config), folder)
    _flatten(folder / "config.json")
    save_word_tokenizer(folder, VOCABULARY, SPECIAL[2:])
    template = TURNS.replace("VIDEO", "<|vision_start|><video><|vision_end|>")
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    (folder / "preprocessor_config.json").write_text(json.dumps(QWEN2_PROCESSOR | STEPS | preprocessing))
    return folder


def _flatten(path: Path) -> None:
    """config.json as Qwen2-VL was published, before transformers put the text settings into a part of their own."""
    config = json.loads(path.read_text())
    text = config.pop("text_config")
    rope = text.pop("rope_parameters")
    text |= {
        "rope_theta": rope["rope_theta"],
        "rope_scaling": {"type": "mrope", "mrope_section": rope["mrope_section"]},
    }
    config = {**{key: value for key, value in text.items() if key != "model_type"}, **config}
    config["vision_config"] |= {"model_type": "qwen2_vl"}
    path.write_text(json.dumps(config))
