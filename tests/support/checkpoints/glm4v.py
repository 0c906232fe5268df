"""Tiny random checkpoints of GLM-4.1V, GLM-4.6V and GLM-4.5V, in the layout in which they are published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import (
    Glm4vConfig,
    Glm4vForConditionalGeneration,
    Glm4vMoeConfig,
    Glm4vMoeForConditionalGeneration,
    Glm46VConfig,
    Glm46VForConditionalGeneration,
)

from tests.support.checkpoints.parts import PATCHES, TEXT, VISION, VOCABULARY, extended, save_model, save_word_tokenizer

_OWN = ["[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|image|>", "<|video|>"]
_OWN += [f"<|{side}_of_{medium}|>" for side in ("begin", "end") for medium in ("image", "video")]
GLM_VOCABULARY = extended(VOCABULARY, [*_OWN, "think", "></", ".", "<", ">", "seconds", *(str(i) for i in range(40))])
#: As the published one of GLM-4.5V: a variable says whether the model is to think.
_TEMPLATE = """[gMASK]<sop>
{%- for m in messages %}<|user|>
{% for c in m.content %}{% if c.type == 'video' %}<|begin_of_video|><|video|><|end_of_video|>
{%- else %}{{ c.text }}{% endif %}
{%- endfor %}{% endfor %}
{%- if add_generation_prompt %}<|assistant|>
{% if enable_thinking is defined and not enable_thinking %}<think></think>
{% endif %}{% endif %}"""


def glm4v_checkpoint(folder: Path, seed: int = 0, **settings: Any) -> Path:
    """GLM-4.1V in small: 4-pixel patches, two frames a slot; `settings` of the processor."""
    return _save(folder, seed, Glm4vConfig, Glm4vForConditionalGeneration, "Glm4vProcessor", {}, settings)


def glm46v_checkpoint(folder: Path, seed: int = 0, **settings: Any) -> Path:
    """The same in the classes of GLM-4.6V, whose times have tenths."""
    text = {"model_type": "glm4v_text"}
    return _save(folder, seed, Glm46VConfig, Glm46VForConditionalGeneration, "Glm46VProcessor", text, settings)


def glm4v_moe_checkpoint(folder: Path, seed: int = 0, **settings: Any) -> Path:
    """GLM-4.5V in small: after the first layer four experts, two of which process each token, and one that does all."""
    text = {
        "moe_intermediate_size": 32,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_shared_experts": 1,
        "first_k_dense_replace": 1,
        "head_dim": 12,
    }
    return _save(folder, seed, Glm4vMoeConfig, Glm4vMoeForConditionalGeneration, "Glm4vProcessor", text, settings)


def _save(
    folder: Path,
    seed: int,
    config_class: Any,
    model_class: Any,
    processor_class: str,
    text: dict[str, Any],
    settings: dict[str, Any],
) -> Path:
    rope = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5, "mrope_section": [1, 1, 1]}
    ids = {name: GLM_VOCABULARY[token] for name, token in _IDS.items()}
    vision: dict[str, Any] = VISION | {"depth": 3, "image_size": 24}
    if config_class is Glm46VConfig:
        vision["model_type"] = "glm4v_vision"
    config = config_class(
        text_config={**TEXT, "vocab_size": len(GLM_VOCABULARY), **text, "rope_parameters": rope},
        vision_config=vision,
        tie_word_embeddings=False,
        **ids,
    )
    torch.manual_seed(seed)
    save_model(model_class(config), folder)
    save_word_tokenizer(folder, GLM_VOCABULARY, _OWN)
    (folder / "chat_template.jinja").write_text(_TEMPLATE)
    processor = {
        **PATCHES,
        "size": {"shortest_edge": 16 * 16, "longest_edge": 4 * 48 * 48},
        "processor_class": processor_class,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor | {"size": {"shortest_edge": 1}}))
    (folder / "video_preprocessor_config.json").write_text(json.dumps(processor | settings))
    return folder


_IDS = {
    "image_token_id": "<|image|>",
    "video_token_id": "<|video|>",
    "image_start_token_id": "<|begin_of_image|>",
    "image_end_token_id": "<|end_of_image|>",
    "video_start_token_id": "<|begin_of_video|>",
    "video_end_token_id": "<|end_of_video|>",
}
