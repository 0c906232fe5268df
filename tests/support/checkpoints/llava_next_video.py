"""A tiny random checkpoint of LLaVA-NeXT-Video, in the layout in which it is published."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
from transformers import LlavaNextVideoConfig, LlavaNextVideoForConditionalGeneration

from tests.support.checkpoints.parts import SPECIAL, TEXT, VOCABULARY, extended, save_model, save_tokenizer

# Vicuna's turns, as the hub's template writes them: the video first, whatever the order of the parts.
VICUNA_TEMPLATE = """{% for m in messages %}{{ m.role.upper() }}: {% for c in m.content %}\
{% if c.type == 'video' %}<video>
{% endif %}{% endfor %}{% for c in m.content %}\
{% if c.type == 'text' %}{{ c.text }} {% endif %}{% endfor %}{% endfor %}\
{% if add_generation_prompt %}ASSISTANT:{% endif %}"""


def llava_next_video_checkpoint(folder: Path, seed: int = 0) -> Path:
    """LLaVA-NeXT-Video in small: 24-pixel frames, 6 x 6 patches and [CLS], pooled to 3 x 3; a tokenizer that begins."""
    vocabulary = extended(VOCABULARY, ["<s>", "USER", "ASSISTANT", ":"])
    config = LlavaNextVideoConfig(
        text_config={
            **TEXT,
            "model_type": "llama",
            "vocab_size": len(vocabulary),
            "bos_token_id": vocabulary["<s>"],
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
        },
        vision_config={
            "model_type": "clip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 4,
            "num_attention_heads": 2,
            "image_size": 24,
            "patch_size": 4,
            "projection_dim": 16,
            "initializer_factor": 3.0,
        },
        video_token_index=vocabulary["<video>"],
        image_token_index=vocabulary["<image>"],
        initializer_range=0.3,
    )
    torch.manual_seed(seed)
    save_model(LlavaNextVideoForConditionalGeneration(config), folder, bos_token_id=vocabulary["<s>"])
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in [*SPECIAL, "<s>"]])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    save_tokenizer(folder, tokenizer, SPECIAL[2:], bos_token="<s>")
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": VICUNA_TEMPLATE}))
    settings = {
        "crop_size": {"height": 24, "width": 24},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": 24},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder
