"""Tiny random checkpoints of more families, in the layout in which each is published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    GenerationConfig,
    InternVLConfig,
    InternVLForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)

from tests.support.checkpoints.parts import SPECIAL, TEXT, TURNS, VOCABULARY


def qwen2_vl_checkpoint(folder: Path, seed: int = 0) -> Path:
    """Qwen2-VL in small: 4-pixel patches, two frames a slot; the text settings stand at the top of config.json."""
    config = Qwen2VLConfig(
        text_config={
            **TEXT,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 2, 2]},
        },
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
    _save(Qwen2VLForConditionalGeneration(config), folder)
    _flatten(folder / "config.json")
    word_tokenizer(folder, VOCABULARY, SPECIAL[2:])
    template = TURNS.replace("VIDEO", "<|vision_start|><video><|vision_end|>")
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    settings = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "patch_size": 4,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "min_pixels": 16 * 16,
        "max_pixels": 40 * 40,
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


FRAMES = ["<img>", "</img>", "<IMG_CONTEXT>", ":", *(f"Frame{i}" for i in range(1, 13))]
INTERNVL_VOCABULARY = {**VOCABULARY, **{word: len(VOCABULARY) + number for number, word in enumerate(FRAMES)}}


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
    _save(model, folder)
    word_tokenizer(
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


def _save(model: Any, folder: Path) -> None:
    model.generation_config = GenerationConfig(eos_token_id=TEXT["eos_token_id"], pad_token_id=TEXT["pad_token_id"])
    model.save_pretrained(folder, max_shard_size="40KB")


def word_tokenizer(folder: Path, vocabulary: dict[str, int], special: list[str], **named: str) -> None:
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=inner,
        unk_token="<unk>",
        pad_token="<pad>",
        eos_token="<|im_end|>",
        additional_special_tokens=special,
        **named,
    ).save_pretrained(folder)
