"""A tiny random checkpoint of Qwen2.5-Omni, in the layout in which it is published."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from transformers import GenerationConfig, Qwen2_5OmniThinkerConfig, Qwen2_5OmniThinkerForConditionalGeneration

from tests.support.checkpoints.parts import SPECIAL, TEXT, TURNS, VOCABULARY, extended, save_word_tokenizer

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
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 2, 2]},
        },
        vision_config={
            "depth": 3,
            "hidden_size": 32,
            "num_heads": 2,
            "intermediate_size": 48,
            "out_hidden_size": 48,
            "patch_size": 4,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 16,
            "fullatt_block_indexes": [2],
            "initializer_range": 0.3,
        },
        audio_config={
            "num_mel_bins": 8,
            "encoder_layers": 1,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 16,
            "d_model": 16,
            "output_dim": 48,
            "max_source_positions": 20,
            "n_window": 4,
        },
        video_token_index=OMNI_VOCABULARY["<|VIDEO|>"],
        image_token_index=OMNI_VOCABULARY["<|IMAGE|>"],
        audio_token_index=OMNI_VOCABULARY["<|AUDIO|>"],
        audio_start_token_id=OMNI_VOCABULARY["<|audio_bos|>"],
        audio_end_token_id=OMNI_VOCABULARY["<|audio_eos|>"],
        vision_start_token_id=OMNI_VOCABULARY["<|vision_bos|>"],
        vision_end_token_id=OMNI_VOCABULARY["<|vision_eos|>"],
    )
    torch.manual_seed(seed)
    model = Qwen2_5OmniThinkerForConditionalGeneration(config)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {_published(name): tensor.clone() for name, tensor in model.state_dict().items()}
    tensors["talker.codec_head.weight"] = torch.zeros(2, 2)
    save_torch_state_dict(tensors, folder, max_shard_size="40KB")
    whole = {"architectures": ["Qwen2_5OmniModel"], "model_type": "qwen2_5_omni", "enable_audio_output": True}
    (folder / "config.json").write_text(json.dumps(whole | {"thinker_config": config.to_dict()}))
    GenerationConfig(eos_token_id=TEXT["eos_token_id"], pad_token_id=TEXT["pad_token_id"]).save_pretrained(folder)
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
    settings = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "patch_size": 4,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "min_pixels": 16 * 16,
        "max_pixels": 40 * 40,
        "image_mean": [0.48, 0.46, 0.41],
        "image_std": [0.27, 0.26, 0.28],
        "cap_pixels_per_frame": False,  # the bounds hold for videos too, which keeps frames small
        **preprocessing,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def _published(name: str) -> str:
    """The name of one of the thinker's tensors in the published files."""
    name = re.sub(r"^model\.language_model\.", "model.", name)
    return "thinker." + re.sub(r"^model\.(visual|audio_tower)\.", r"\1.", name)
