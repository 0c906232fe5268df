"""Tiny random checkpoints of Gemma 4, in the layout in which it is published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import Gemma4Config, Gemma4ForConditionalGeneration

from tests.support.checkpoints.parts import SPECIAL, TEXT, VOCABULARY, extended, save_model, save_word_tokenizer

#: Special tokens by the names that its processor asks the tokenizer for.
NAMED = {
    "bos_token": "<bos>",
    "eos_token": "<turn|>",
    "image_token": "<|image|>",
    "boi_token": "<|image>",
    "eoi_token": "<image|>",
    "audio_token": "<|audio|>",
    "boa_token": "<|audio>",
    "eoa_token": "<audio|>",
}
_MORE = ["<|turn>", "<|think|>", "<|video|>"]
WORDS = extended(VOCABULARY, [*NAMED.values(), *_MORE, "model", "system", ":", *(f"{n:02d}" for n in range(60))])
#: As the published one: roles, thoughts on demand, the text without the space around it.
TEMPLATE = """{{ bos_token }}{% if enable_thinking is defined and enable_thinking %}<|turn>system
<|think|><turn|>
{% endif %}{% for m in messages %}<|turn>{{ m.role }}
{% for c in m.content %}{% if c.type == 'video' %}<|video|>{% else %}{{ c.text | trim }}{% endif %}{% endfor %}<turn|>
{% endfor %}{% if add_generation_prompt %}<|turn>model
{% endif %}"""
#: What the small models have and the larger ones lack, and the other way round.
SMALL: dict[str, Any] = {"hidden_size_per_layer_input": 6, "num_kv_shared_layers": 3, "use_double_wide_mlp": True}
LARGE: dict[str, Any] = {
    "use_bidirectional_attention": "vision",
    "hidden_size_per_layer_input": 0,
    "attention_k_eq_v": True,
    "num_global_key_value_heads": 1,
    "enable_moe_block": True,
    "num_experts": 4,
    "top_k_experts": 2,
    "moe_intermediate_size": 16,
}
#: Both at once, but for the experts.
BOTH: dict[str, Any] = {**SMALL, "use_bidirectional_attention": "vision"}
WINDOW = 12


def gemma4_checkpoint(folder: Path, seed: int = 0, text: dict[str, Any] = BOTH, **settings: Any) -> Path:
    """Gemma 4 in small: 4-pixel patches, of which 2 x 2 become a token, and windows of about one frame.

    `text` says what kind of LLM it is, and `settings` change those of the video processor.
    """
    special = {"bos_token_id": WORDS["<bos>"], "eos_token_id": WORDS["<turn|>"], "pad_token_id": WORDS["<pad>"]}
    config = Gemma4Config(
        text_config={
            **TEXT,
            **special,
            "vocab_size": len(WORDS),
            "vocab_size_per_layer_input": len(WORDS),
            "num_hidden_layers": 6,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2,
            "head_dim": 12,
            "global_head_dim": 24,
            "sliding_window": WINDOW,
            "final_logit_softcapping": 30.0,
            **text,
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "patch_size": 4,
            "pooling_kernel_size": 2,
            "position_embedding_size": 64,
            "standardize": True,
        },
        audio_config=None,
        image_token_id=WORDS["<|image|>"],
        video_token_id=WORDS["<|video|>"],
        boi_token_id=WORDS["<|image>"],
        eoi_token_id=WORDS["<image|>"],
    )
    torch.manual_seed(seed)
    model = Gemma4ForConditionalGeneration(config)
    for name, weight in model.named_parameters():  # its own start would leave answers nearly the same
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.03 if name.endswith("embed_tokens.weight") else 0.3)
    torch.nn.init.normal_(model.model.vision_tower.std_bias)
    torch.nn.init.uniform_(model.model.vision_tower.std_scale, 0.5, 1.5)
    save_model(model, folder, **special)
    save_word_tokenizer(folder, WORDS, [*SPECIAL[2:], *NAMED.values(), *_MORE], **NAMED)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    video = {"max_soft_tokens": 9, "patch_size": 4, "pooling_kernel_size": 2, "image_mean": [0.0] * 3}
    video |= {"image_std": [1.0] * 3, "resample": 3, "rescale_factor": 1 / 255, "do_normalize": True}
    processor = {"processor_class": "Gemma4Processor", "video_processor": video | settings}
    (folder / "processor_config.json").write_text(json.dumps(processor))
    return folder
