"""A tiny random checkpoint of Qwen3-Omni, in the layout in which it is published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3OmniMoeThinkerConfig, Qwen3OmniMoeThinkerForConditionalGeneration

from tests.support.checkpoints.parts import TEXT
from tests.support.checkpoints.qwen2_5_omni import OMNI_VOCABULARY, save_thinker


def qwen3_omni_moe_checkpoint(folder: Path, seed: int = 0, **preprocessing: Any) -> Path:
    """Qwen3-Omni in small: the thinker with four experts, two of which process each token, 13 positions a second."""
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_interleaved": True, "mrope_section": [2, 2, 2]}
    config = Qwen3OmniMoeThinkerConfig(
        text_config={
            **TEXT,
            "vocab_size": len(OMNI_VOCABULARY),
            "head_dim": 12,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "rope_parameters": rope,
        },
        vision_config={
            "depth": 4,
            "hidden_size": 32,
            "num_heads": 2,
            "intermediate_size": 48,
            "out_hidden_size": 48,
            "patch_size": 4,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "num_position_embeddings": 36,
            "deepstack_visual_indexes": [0, 2],
            "initializer_range": 0.3,
        },
        audio_config={
            "num_mel_bins": 8,
            "encoder_layers": 1,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 16,
            "d_model": 16,
            "output_dim": 48,
            "downsample_hidden_size": 8,
            "max_source_positions": 20,
            "n_window": 4,
        },
        position_id_per_seconds=13,
        video_token_id=OMNI_VOCABULARY["<|VIDEO|>"],
        image_token_id=OMNI_VOCABULARY["<|IMAGE|>"],
        audio_token_id=OMNI_VOCABULARY["<|AUDIO|>"],
        audio_start_token_id=OMNI_VOCABULARY["<|audio_bos|>"],
        vision_start_token_id=OMNI_VOCABULARY["<|vision_bos|>"],
        vision_end_token_id=OMNI_VOCABULARY["<|vision_eos|>"],
    )
    torch.manual_seed(seed)
    save_thinker(Qwen3OmniMoeThinkerForConditionalGeneration(config), folder, "qwen3_omni_moe")
    settings = {
        "patch_size": 4,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "min_pixels": 16 * 16,
        "max_pixels": 40 * 40,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "cap_pixels_per_frame": False,  # the bounds hold for videos too, which keeps frames small
        **preprocessing,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder
