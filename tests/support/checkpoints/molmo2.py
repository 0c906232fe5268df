"""A tiny random checkpoint of Molmo 2, in the layout in which it is published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers

from tests.support.checkpoints.parts import SPECIAL, TEXT, VOCABULARY, extended, save_model, save_word_tokenizer

#: All tokens that the processor's class counts as those of images or frames.
OF_IMAGES = [
    "<im_patch>",
    "<im_col>",
    "<im_start>",
    "<low_res_im_start>",
    "<frame_start>",
    "<im_end>",
    "<frame_end>",
    "<im_low>",
]
_OTHERS = ["<|image|>", "<|video|>"]
_BASE = extended(VOCABULARY, [".", *(str(number) for number in range(20))])
MOLMO_VOCABULARY = extended(_BASE, [*OF_IMAGES, *_OTHERS])
#: The video stands before the user's turn, as in the published template.
TEMPLATE = """{% for m in messages %}{% for c in m.content %}{% if c.type == 'video' %}<|video|>{% endif %}{% endfor %}\
{% endfor %}{% for m in messages %}<|im_start|>{{ m.role }}
{% for c in m.content %}{% if c.type == 'text' %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def molmo2_checkpoint(folder: Path, seed: int = 0, text: dict[str, Any] | None = None, **processor: Any) -> Path:
    """Molmo 2 in small: 6 x 6 patches of 4 pixels, pooled 3 x 3; `processor` are entries of processor_config.json.

    As in the published checkpoints, words for frames have rows of their own after those of the vocabulary, frames
    stand between tags for images, and features come from two layers.
    """
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16, "initializer_range": 0.15}
    config = transformers.Molmo2Config(
        text_config={
            **TEXT,
            "vocab_size": len(_BASE),
            "additional_vocab_size": len(MOLMO_VOCABULARY) - len(_BASE),
            "head_dim": 12,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
            **(text or {}),
        },
        vision_config={
            **heads,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "image_size": [24, 24],
            "patch_size": 4,
        },
        adapter_config={
            **heads,
            "vision_feature_layer": [2, 0],
            "hidden_size": 32,
            "intermediate_size": 48,
            "text_hidden_size": TEXT["hidden_size"],
        },
        image_start_token_id=MOLMO_VOCABULARY["<im_start>"],
        low_res_image_start_token_id=MOLMO_VOCABULARY["<low_res_im_start>"],
        image_end_token_id=MOLMO_VOCABULARY["<im_end>"],
        image_patch_id=MOLMO_VOCABULARY["<im_patch>"],
        frame_start_token_id=MOLMO_VOCABULARY["<frame_start>"],
        frame_end_token_id=MOLMO_VOCABULARY["<frame_end>"],
        initializer_range=0.3,
        tie_word_embeddings=False,
    )
    torch.manual_seed(seed)
    save_model(transformers.Molmo2ForConditionalGeneration(config), folder)
    special = [*SPECIAL[2:], *OF_IMAGES, *_OTHERS]
    save_word_tokenizer(folder, MOLMO_VOCABULARY, special, bos_token="<|im_end|>")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    (folder / "processor_config.json").write_text(json.dumps({"use_frame_special_tokens": False} | processor))
    settings = {
        "size": {"height": 24, "width": 24},
        "patch_size": 4,
        "pooling_size": [3, 3],
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "resample": 2,
        "do_rescale": True,
        "do_normalize": True,
    }
    (folder / "video_preprocessor_config.json").write_text(json.dumps(settings))
    (folder / "preprocessor_config.json").write_text(json.dumps(settings | {"pooling_size": [2, 2]}))
    return folder
