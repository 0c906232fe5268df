"""Dummies: folders with a published configuration and no weights, to measure what a model costs without having it.

A dummy enters by the real door: `write_dummy` makes a folder that looks like a checkpoint, and loading fills the part
that a step needs with seeded noise (`random_model`). Time and memory are those of the real model; what it sees and
says means nothing, and neither do the communities of its tokens.
"""

from __future__ import annotations

import json
import zlib
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForImageTextToText, PretrainedConfig
from transformers.initialization import no_init_weights

from ..registry import unknown_name
from .checkpoint import DUMMY

_STD = 0.02  # `initializer_range` of all these models
_CHATML = {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645}
_TEMPLATE = (
    "{%- for message in messages -%}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{%- for part in message['content'] -%}"
    "{{ 'VIDEO' if part['type'] == 'video' else part['text'] }}"
    "{%- endfor -%}{{ '<|im_end|>\\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)


@dataclass(frozen=True)
class Preset:
    """A published configuration, and what its prompts and frames need."""

    summary: str
    config: dict[str, Any]  # config.json
    preprocessor: dict[str, Any]  # preprocessor_config.json
    special: dict[str, int]  # special tokens beside ChatML's
    video: str  # how the chat template writes a video


def _llava(summary: str, **text: Any) -> Preset:
    """LLaVA-OneVision's classes: SigLIP so400m at 384 pixels without its last layer, and a Qwen2."""
    vision = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 26, "num_attention_heads": 16}
    config = {
        "architectures": ["LlavaOnevisionForConditionalGeneration"],
        "model_type": "llava_onevision",
        "image_token_index": 151646,
        "video_token_index": 151647,
        "projector_hidden_act": "gelu",
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
        "tie_word_embeddings": text["tie_word_embeddings"],
        "vision_config": {
            "model_type": "siglip_vision_model",
            "patch_size": 14,
            "image_size": 384,
            "vision_use_head": False,
            **vision,
        },
        "text_config": {"model_type": "qwen2", **_text(text)},
    }
    grey = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 384, "width": 384}}
    return Preset(summary, config, {**_RESCALED, **grey}, {"<image>": 151646, "<video>": 151647}, "<video>\n")


def _qwen(summary: str, **text: Any) -> Preset:
    """Qwen2.5-VL: one vision encoder for all sizes, and a Qwen2.5 with three-part rotary positions."""
    config = {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "image_token_id": 151655,
        "video_token_id": 151656,
        "vision_start_token_id": 151652,
        "vision_end_token_id": 151653,
        "tie_word_embeddings": text["tie_word_embeddings"],
        "vision_config": {
            "model_type": "qwen2_5_vl_vision",
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "out_hidden_size": text["hidden_size"],
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "tokens_per_second": 2,
            "window_size": 112,
            "fullatt_block_indexes": [7, 15, 23, 31],
        },
        "text_config": {"model_type": "qwen2_5_vl_text", **_text(text, mrope_section=[16, 24, 24])},
    }
    settings = {
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "min_pixels": 3136,
        "max_pixels": 12845056,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
    }
    special = {"<|vision_start|>": 151652, "<|vision_end|>": 151653, "<|image_pad|>": 151655, "<|video_pad|>": 151656}
    return Preset(summary, config, {**_RESCALED, **settings}, special, "<|vision_start|><|video_pad|><|vision_end|>")


def _text(text: dict[str, Any], **rope: Any) -> dict[str, Any]:
    return {
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-06,
        "use_sliding_window": False,
        "bos_token_id": 151643,
        "eos_token_id": 151645,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0, **rope},
        **text,
    }


def _size(hidden: int, mlp: int, layers: int, heads: int, kv: int, vocabulary: int, tied: bool) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
    }


_RESCALED = {"do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "resample": 3}

#: From the config.json of lmms-lab/LLaVA-Video-7B-Qwen2, llava-hf/llava-onevision-qwen2-0.5b-ov-hf and
#: Qwen/Qwen2.5-VL-{3B,7B}-Instruct.
PRESETS = {
    "llava-video-7b": _llava(
        "LLaVA-Video-7B-Qwen2 in LLaVA-OneVision's classes: 14 x 14 tokens a frame, without the original's newline "
        "column (14 x 15)",
        **_size(3584, 18944, 28, 28, 4, 152064, tied=False),
    ),
    "llava-onevision-0.5b": _llava(
        "llava-onevision-qwen2-0.5b-ov: 14 x 14 tokens a frame", **_size(896, 4864, 24, 14, 2, 152000, tied=True)
    ),
    "qwen2.5-vl-7b": _qwen(
        "Qwen2.5-VL-7B-Instruct: native resolution, two frames a slot",
        **_size(3584, 18944, 28, 28, 4, 152064, tied=False),
    ),
    "qwen2.5-vl-3b": _qwen(
        "Qwen2.5-VL-3B-Instruct: native resolution, two frames a slot",
        **_size(2048, 11008, 36, 16, 2, 151936, tied=True),
    ),
}


def find_preset(name: str) -> Preset:
    """The preset of that name; RequestError with the nearest name if there is none."""
    if name not in PRESETS:
        raise unknown_name("preset", name, list(PRESETS))
    return PRESETS[name]


def write_dummy(folder: Path, name: str, **overrides: dict[str, Any]) -> Path:
    """Write the folder of a dummy: configuration, preprocessor, tokenizer and chat template, no weights.

    `overrides` change parts of the configuration, e.g. text_config={"num_hidden_layers": 2}. Words are all unknown
    to the tokenizer: what counts is how many there are.
    """
    preset = find_preset(name)
    config = deepcopy(preset.config) | {"dtype": "bfloat16", DUMMY: True}
    for part, changes in overrides.items():
        config[part] |= changes
    special = _CHATML | preset.special
    tokenizer = {
        "version": "1.0",
        "added_tokens": [{"id": number, "content": text, **_AS_IS} for text, number in special.items()],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": {"<unk>": 0, **special}, "unk_token": "<unk>"},
    }
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "unk_token": "<unk>"}
    files = {
        "config.json": config,
        "preprocessor_config.json": preset.preprocessor,
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": settings,
    }
    folder.mkdir(exist_ok=True)
    for file, content in files.items():
        (folder / file).write_text(json.dumps(content, indent=2))
    (folder / "chat_template.jinja").write_text(_TEMPLATE.replace("VIDEO", preset.video.replace("\n", "\\n")))
    return folder


_AS_IS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


def random_model(config: PretrainedConfig, device: torch.device, dtype: torch.dtype, attention: str) -> Any:
    """A model of `config`, made on `device` in `dtype`: norms are neutral, all else is noise.

    The noise is seeded by the name of each parameter, so a part of a model has the same weights whatever else of the
    model is there.
    """
    with no_init_weights(), device:
        model: Any = AutoModelForImageTextToText.from_config(config, dtype=dtype, attn_implementation=attention)
    model.tie_weights()
    for name, parameter in model.named_parameters():
        _fill(name, parameter)
    return model


@torch.no_grad()
def _fill(name: str, parameter: nn.Parameter) -> None:
    if parameter.ndim == 1 and name.endswith(("weight", "bias")):
        parameter.fill_(1.0 if name.endswith("weight") else 0.0)
    else:
        chance = torch.Generator(parameter.device).manual_seed(zlib.crc32(name.encode()))
        parameter.normal_(0.0, _STD, generator=chance)
