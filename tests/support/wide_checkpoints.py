"""The tiny random checkpoints with an LLM of 32 numbers a head, the fewest that vLLM's attention on the CPU takes."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from tests.support.checkpoints import CHECKPOINTS
from tests.support.checkpoints.llava_video import llava_video_checkpoint
from tests.support.checkpoints.parts import VOCABULARY

_HEAD, _HEADS = 32, 4


def wide_checkpoint(family: str, folder: Path, seed: int = 0) -> Path:
    """A checkpoint of a family, saved in a folder; the rest is as in CHECKPOINTS."""
    if (
        family == "llava_video"
    ):  # its authors' format; as published, with a placeholder that the tokenizer does not know
        words = len(VOCABULARY) + 8
        return llava_video_checkpoint(folder, seed, _HEAD * _HEADS, words, image_token_index=words - 1)
    CHECKPOINTS[family](folder, seed)
    config = AutoConfig.from_pretrained(folder)
    text, width = config.get_text_config(), _HEAD * _HEADS
    text.hidden_size, text.num_attention_heads, text.num_key_value_heads, text.head_dim = width, _HEADS, 2, _HEAD
    if "mrope_section" in text.rope_parameters:
        text.rope_parameters = {**text.rope_parameters, "mrope_section": [4, 6, 6]}
    for name in ("out_hidden_size", "hidden_size"):  # Qwen's names for the width of what its encoder makes
        if family.startswith("qwen") and hasattr(config.vision_config, name):
            setattr(config.vision_config, name, width)
            break
    torch.manual_seed(seed)
    for file in folder.glob("model*"):
        file.unlink()
    generation = (folder / "generation_config.json").read_text()
    AutoModelForImageTextToText.from_config(config).save_pretrained(folder)
    (folder / "generation_config.json").write_text(generation)
    return folder
