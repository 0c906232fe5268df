"""A tiny random checkpoint of Qwen3.5, in the layout in which it is published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

from tests.support.checkpoints.parts import SPECIAL, TURNS, save_tokenizer
from tests.support.checkpoints.qwen3_vl import save_checkpoint

#: A gated delta net before each layer with attention, of which half the width turns with the position.
HYBRID: dict[str, Any] = {
    "num_hidden_layers": 4,
    "layer_types": ["linear_attention", "full_attention"] * 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "head_dim": 24,
    "rope_parameters": {"partial_rotary_factor": 0.5},
}
#: As the published template: a variable says whether the model is to think.
THINKING = TURNS.replace(
    "assistant\n{% endif %}",
    "assistant\n<think>{% if enable_thinking is defined and enable_thinking is false %}</think>{% endif %}{% endif %}",
)
#: transformers has a tokenizer class for Qwen3.5, which reads bytes whatever tokenizer.json says.
BYTES = {word: i for i, word in enumerate([*SPECIAL, "<|video_pad|>", *sorted(pre_tokenizers.ByteLevel.alphabet())])}


def save_byte_tokenizer(folder: Path, vocabulary: dict[str, int], special: list[str], **named: str) -> None:
    """Save a tokenizer of single bytes."""
    inner = Tokenizer(models.BPE(vocabulary, []))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    save_tokenizer(folder, inner, special, **named)


#: How all these checkpoints differ from Qwen3-VL besides the LLM.
OWN: dict[str, Any] = {"deepstack": (), "turns": THINKING, "vocabulary": BYTES, "save": save_byte_tokenizer}


def qwen3_5_checkpoint(folder: Path, seed: int = 0, **settings: Any) -> Path:
    """Qwen3.5 in small: the vision encoder of Qwen3-VL in small, another LLM, and a tokenizer of bytes."""
    return save_checkpoint(folder, seed, Qwen3_5Config, Qwen3_5ForConditionalGeneration, HYBRID, settings, **OWN)
