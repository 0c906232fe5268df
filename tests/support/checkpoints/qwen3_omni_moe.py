"""A tiny random checkpoint of Qwen3-Omni, in the layout in which it is published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3OmniMoeThinkerConfig, Qwen3OmniMoeThinkerForConditionalGeneration

from tests.support.checkpoints.parts import AUDIO, BOUNDED, DEEP, EVEN_COLOURS, INTERLEAVED, TEXT
from tests.support.checkpoints.qwen2_5_omni import OMNI_VOCABULARY, save_thinker


def qwen3_omni_moe_checkpoint(folder: Path, seed: int = 0, **preprocessing: Any) -> Path:
    """Qwen3-Omni in small: the thinker with four experts, two of which process each token, 13 positions a second."""
    config = Qwen3OmniMoeThinkerConfig(
        text_config={
            **TEXT,
            "vocab_size": len(OMNI_VOCABULARY),
            "head_dim": 12,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "rope_parameters": INTERLEAVED,
        },
        vision_config=DEEP | {"deepstack_visual_indexes": [0, 2]},
        audio_config=AUDIO | {"downsample_hidden_size": 8},
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
    (folder / "preprocessor_config.json").write_text(json.dumps(BOUNDED | EVEN_COLOURS | preprocessing))
    return folder
