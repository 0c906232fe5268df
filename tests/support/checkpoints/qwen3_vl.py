"""A tiny random checkpoint of Qwen3-VL, in the layout in which it is published."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from tests.support.checkpoints.parts import (
    DEEP,
    EVEN_COLOURS,
    INTERLEAVED,
    PATCHES,
    SPECIAL,
    TEXT,
    TURNS,
    VOCABULARY,
    extended,
    save_model,
    save_word_tokenizer,
)

_TIMES = ["<|video_pad|>", "<", ">", ".", "seconds", *(str(i) for i in range(20))]
QWEN3_VOCABULARY = extended(VOCABULARY, _TIMES)


def qwen3_vl_checkpoint(folder: Path, seed: int = 0, **settings: Any) -> Path:
    """Qwen3-VL in small: 4-pixel patches, two frames a slot, features of two more layers; `settings` of the processor.

    At most 9216 pixels a video: four times 48 x 48, so that seven frames become smaller than one.
    """
    save_checkpoint(folder, seed, Qwen3VLConfig, Qwen3VLForConditionalGeneration, {}, settings)
    return as_published(folder)


def save_checkpoint(
    folder: Path,
    seed: int,
    config_class: Any,
    model_class: Any,
    text: dict[str, Any],
    settings: dict[str, Any],
    deepstack: tuple[int, ...] = (0, 2),
    turns: str = TURNS,
    vocabulary: dict[str, int] = QWEN3_VOCABULARY,
    save: Callable[..., None] = save_word_tokenizer,
) -> Path:
    """The same in other classes, e.g. those with experts; `text` changes the LLM, `settings` the processor.

    Special tokens have the same ids in any `vocabulary`, which `save` writes as a tokenizer.
    """
    config = config_class(
        text_config={
            **TEXT,
            "vocab_size": len(vocabulary),
            "head_dim": 12,
            **text,
            "rope_parameters": INTERLEAVED | text.get("rope_parameters", {}),
        },
        vision_config=DEEP | ({"deepstack_visual_indexes": list(deepstack)} if deepstack else {}),
        video_token_id=vocabulary["<|video_pad|>"],
        image_token_id=VOCABULARY["<image>"],
        vision_start_token_id=VOCABULARY["<|vision_start|>"],
        vision_end_token_id=VOCABULARY["<|vision_end|>"],
        tie_word_embeddings=False,
    )
    torch.manual_seed(seed)
    save_model(model_class(config), folder)
    save(
        folder,
        vocabulary,
        [*SPECIAL[2:], "<|video_pad|>"],
        image_token="<image>",
        video_token="<|video_pad|>",
        vision_start_token="<|vision_start|>",
        vision_end_token="<|vision_end|>",
    )
    template = turns.replace("VIDEO", "<|vision_start|><|video_pad|><|vision_end|>")
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    processor = PATCHES | EVEN_COLOURS | {"size": {"shortest_edge": 16 * 16, "longest_edge": 4 * 48 * 48}}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor | {"size": {"shortest_edge": 1}}))
    (folder / "video_preprocessor_config.json").write_text(json.dumps(processor | settings))
    return folder


def as_published(folder: Path) -> Path:
    """The folder, with its config.json as the authors of Qwen3-VL wrote it, for transformers 4.57."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    rope = config["text_config"].pop("rope_parameters")
    config["text_config"] |= {
        "rope_theta": rope["rope_theta"],
        "rope_scaling": {key: value for key, value in rope.items() if key != "rope_theta"},
    }
    config["vision_config"] |= {"model_type": config["model_type"]}
    config["vision_config"].pop("rope_parameters", None)
    path.write_text(json.dumps(config))
    return folder
