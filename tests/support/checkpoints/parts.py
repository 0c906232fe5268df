"""What tiny checkpoints of several families share: vocabulary, chat template, size of the LLM, how to save them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GenerationConfig, PreTrainedTokenizerFast

SPECIAL = ["<unk>", "<pad>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<video>", "<image>"]
WORDS = [
    "user",
    "assistant",
    "what",
    "happens",
    "in",
    "this",
    "video",
    "?",
    "how",
    "many",
    *(f"w{i}" for i in range(80)),
]
VOCABULARY = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
QUESTIONS = ["what happens in this video ?", "how many w3 ?", "w7 w1 w2 w40"]

TURNS = """{% for m in messages %}<|im_start|>{{ m.role }}
{% for c in m.content %}{% if c.type == 'video' %}VIDEO{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
TEXT = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "initializer_range": 0.3,  # large, so that a random model's answers depend on what it sees
    "bos_token_id": None,
    "eos_token_id": VOCABULARY["<|im_end|>"],
    "pad_token_id": VOCABULARY["<pad>"],
}
#: What encoders and processors of Qwen and GLM share: 4-pixel patches, four of them a token, two frames a slot.
VISION = {
    "hidden_size": 32,
    "num_heads": 2,
    "intermediate_size": 48,
    "out_hidden_size": TEXT["hidden_size"],
    "patch_size": 4,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "initializer_range": 0.3,
}
WINDOWS = VISION | {"depth": 3, "window_size": 16, "fullatt_block_indexes": [2]}
DEEP = VISION | {"depth": 4, "num_position_embeddings": 36}
AUDIO = {
    "num_mel_bins": 8,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "d_model": 16,
    "output_dim": TEXT["hidden_size"],
    "max_source_positions": 20,
    "n_window": 4,
}
MROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 2, 2]}
INTERLEAVED = MROPE | {"mrope_interleaved": True}
PATCHES = {"patch_size": 4, "temporal_patch_size": 2, "merge_size": 2}
#: The bounds hold for videos too, which keeps frames small.
BOUNDED = PATCHES | {"min_pixels": 16 * 16, "max_pixels": 40 * 40, "cap_pixels_per_frame": False}
CLIP_COLOURS = {"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28]}
EVEN_COLOURS = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
QWEN2_PROCESSOR = {"image_processor_type": "Qwen2VLImageProcessor", **BOUNDED, **CLIP_COLOURS}
#: What files written by older processors say besides.
STEPS = {"resample": 3, "do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255}


def extended(vocabulary: dict[str, int], more: list[str]) -> dict[str, int]:
    """A vocabulary with further words after it."""
    return vocabulary | {word: len(vocabulary) + number for number, word in enumerate(more)}


def save_model(model: Any, folder: Path, **generation: Any) -> None:
    """Save a model in several shards, with its generation settings."""
    ends = {"eos_token_id": TEXT["eos_token_id"], "pad_token_id": TEXT["pad_token_id"]}
    model.generation_config = GenerationConfig(**ends | generation)
    model.save_pretrained(folder, max_shard_size="40KB")


def save_word_tokenizer(folder: Path, vocabulary: dict[str, int], special: list[str], **named: str) -> None:
    """Save a tokenizer that splits at spaces and punctuation."""
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    save_tokenizer(folder, inner, special, **named)


def save_tokenizer(folder: Path, inner: Tokenizer, special: list[str], **named: str) -> None:
    """Save a tokenizer in transformers' files; `named` are special tokens by their names, e.g. bos_token."""
    names = {"unk_token": "<unk>", "pad_token": "<pad>", "eos_token": "<|im_end|>", **named}
    PreTrainedTokenizerFast(tokenizer_object=inner, additional_special_tokens=special, **names).save_pretrained(folder)
