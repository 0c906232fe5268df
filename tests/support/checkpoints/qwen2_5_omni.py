"""A tiny random checkpoint of Qwen2.5-Omni, in the layout in which it is published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen2_5OmniThinkerConfig, Qwen2_5OmniThinkerForConditionalGeneration

from tests.support.checkpoints.parts import (
    AUDIO,
    MROPE,
    QWEN2_PROCESSOR,
    SPECIAL,
    TEXT,
    TURNS,
    VOCABULARY,
    WINDOWS,
    extended,
    save_model,
    save_word_tokenizer,
)

_OWN = ["<|vision_bos|>", "<|vision_eos|>", "<|VIDEO|>", "<|IMAGE|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"]
OMNI_VOCABULARY = extended(VOCABULARY, _OWN)


def qwen2_5_omni_checkpoint(folder: Path, seed: int = 1, **preprocessing: Any) -> Path:
    """Qwen2.5-Omni in small: the thinker, with an encoder of sound, among tensors of the other parts.

    With the weights of seed 0, st-simdiff has just as many candidates as it keeps at ratio 0.5, and asks for no
    importance.
    """
    config = Qwen2_5OmniThinkerConfig(
        text_config={
            **TEXT,
            "vocab_size": len(OMNI_VOCABULARY),
            "tie_word_embeddings": False,
            "rope_parameters": MROPE,
        },
        vision_config=WINDOWS,
        audio_config=AUDIO,
        video_token_index=OMNI_VOCABULARY["<|VIDEO|>"],
        image_token_index=OMNI_VOCABULARY["<|IMAGE|>"],
        audio_token_index=OMNI_VOCABULARY["<|AUDIO|>"],
        audio_start_token_id=OMNI_VOCABULARY["<|audio_bos|>"],
        audio_end_token_id=OMNI_VOCABULARY["<|audio_eos|>"],
        vision_start_token_id=OMNI_VOCABULARY["<|vision_bos|>"],
        vision_end_token_id=OMNI_VOCABULARY["<|vision_eos|>"],
    )
    torch.manual_seed(seed)
    save_thinker(Qwen2_5OmniThinkerForConditionalGeneration(config), folder, "qwen2_5_omni")
    (folder / "preprocessor_config.json").write_text(json.dumps(QWEN2_PROCESSOR | preprocessing))
    return folder


def save_thinker(model: Any, folder: Path, model_type: str) -> None:
    """Save a thinker as the part of a whole that it is in published files, with tokenizer and chat template."""
    save_model(model, folder)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    talker = {"talker.codec_head.weight": torch.zeros(2, 2)}
    for shard in sorted(set(index["weight_map"].values())):
        tensors = {f"thinker.{name}": tensor for name, tensor in load_file(folder / shard).items()} | talker
        save_file(tensors, folder / shard, {"format": "pt"})
        talker = {}
    places = {f"thinker.{name}": shard for name, shard in index["weight_map"].items()}
    first = {"talker.codec_head.weight": min(places.values())}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index | {"weight_map": places | first}))
    config = json.loads((folder / "config.json").read_text())
    whole = {"model_type": model_type, "enable_audio_output": True, "thinker_config": config}
    (folder / "config.json").write_text(json.dumps(whole))
    save_word_tokenizer(
        folder,
        OMNI_VOCABULARY,
        [*SPECIAL[2:], *_OWN],
        video_token="<|VIDEO|>",
        image_token="<|IMAGE|>",
        audio_token="<|AUDIO|>",
        vision_bos_token="<|vision_bos|>",
        vision_eos_token="<|vision_eos|>",
        audio_bos_token="<|audio_bos|>",
        audio_eos_token="<|audio_eos|>",
    )
    template = TURNS.replace("VIDEO", "<|vision_bos|><|VIDEO|><|vision_eos|>")
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
