"""A tiny random checkpoint in the layout in which the authors publish LLaVA-Video: their names, their config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from tests.support.checkpoints.parts import SPECIAL, VOCABULARY, save_word_tokenizer
from tests.support.checkpoints.tensors import (
    HEADS,
    KV_HEADS,
    LAYERS,
    MLP,
    PATCH,
    SIDE,
    VISION_HEADS,
    VISION_LAYERS,
    VISION_MLP,
    VISION_WIDTH,
    WIDTH,
    Shapes,
    linear,
    noise,
    qwen2,
    qwen2_layers,
    save_shards,
    siglip,
)

TOWER = "model.vision_tower.vision_tower.vision_model"


def llava_video_checkpoint(
    folder: Path, seed: int = 0, width: int = WIDTH, words: int = len(VOCABULARY), **changes: Any
) -> Path:
    """LLaVA-Video in small: 28-pixel frames, 7 x 7 patches pooled to 4 x 4 and a newline; `changes` to config.json.

    The LLM has so wide a state, and scores so many words, of which the tokenizer may know fewer.
    """
    folder.mkdir(exist_ok=True)
    config = {
        "_name_or_path": "somewhere/on/the/authors/disk",
        "add_faster_video": False,
        "add_time_instruction": True,
        "architectures": ["LlavaQwenForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": None,
        "eos_token_id": VOCABULARY["<|im_end|>"],
        "faster_token_stride": 10,
        "force_sample": True,
        "hidden_act": "silu",
        "hidden_size": width,
        "image_aspect_ratio": "anyres_max_9",
        "image_token_index": VOCABULARY["<video>"],
        "initializer_range": 0.02,
        "intermediate_size": MLP,
        "max_position_embeddings": 32768,
        "max_window_layers": 28,
        "mm_hidden_size": VISION_WIDTH,
        "mm_newline_position": "grid",
        "mm_patch_merge_type": "spatial_unpad",
        "mm_projector_type": "mlp2x_gelu",
        "mm_resampler_type": None,
        "mm_spatial_pool_mode": "bilinear",
        "mm_spatial_pool_stride": 2,
        "mm_tunable_parts": "mm_vision_tower,mm_mlp_adapter,mm_language_model",
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": "google/siglip-so400m-patch14-384",
        "model_type": "llava",
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 20000.0,
        "sliding_window": 131072,
        "text_config": {"model_type": "llama"},  # left there by transformers' class for `llava`
        "tie_word_embeddings": False,
        "tokenizer_model_max_length": 32768,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.40.0.dev0",
        "use_cache": True,
        "use_mm_proj": True,
        "use_sliding_window": False,
        "vocab_size": words,
        # The published file says nothing about SigLIP, as there is only one; this is the only entry that differs.
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": VISION_WIDTH,
            "intermediate_size": VISION_MLP,
            "num_hidden_layers": VISION_LAYERS,
            "num_attention_heads": VISION_HEADS,
            "image_size": PATCH * SIDE,
            "patch_size": PATCH,
        },
    }
    generation = {
        "do_sample": True,
        "eos_token_id": [VOCABULARY["<|im_end|>"], VOCABULARY["<pad>"]],
        "pad_token_id": VOCABULARY["<pad>"],
        "repetition_penalty": 1.3,
        "temperature": 0.7,
        "top_k": 20,
        "top_p": 0.8,
    }
    (folder / "config.json").write_text(json.dumps(config | changes, indent=2))
    (folder / "generation_config.json").write_text(json.dumps(generation))
    save_shards(folder, noise(_shapes(width, words), torch.Generator().manual_seed(seed)))
    save_word_tokenizer(folder, VOCABULARY, SPECIAL[2:])
    return folder


def _shapes(width: int, words: int) -> Shapes:
    return {
        **qwen2(words, width=width),
        "model.image_newline": (width,),
        **linear("model.mm_projector.0", VISION_WIDTH, width),
        **linear("model.mm_projector.2", width, width),
        **siglip(TOWER, VISION_LAYERS - 1),  # the last layer is not in the checkpoint
        **qwen2_layers(width),
    }
