"""A tiny random checkpoint in the layout in which the authors publish LLaVA-Video: their names, their config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

TOWER = "model.vision_tower.vision_tower.vision_model"
_WIDTH, _MLP, _SEEN, _SEEN_MLP = 48, 64, 32, 48  # of the LLM and of SigLIP
_LAYERS, _TOWER_LAYERS = 3, 4  # of which the last is not in the checkpoint
_HEADS, _KV = 4, 2
_SIDE = 7  # patches


def llava_video_checkpoint(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """LLaVA-Video in small: 28-pixel frames, 7 x 7 patches pooled to 4 x 4 and a newline; `changes` to config.json."""
    from tests.support.checkpoints.qwen_and_onevision import VOCABULARY, _tokenizer

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
        "hidden_size": _WIDTH,
        "image_aspect_ratio": "anyres_max_9",
        "image_token_index": VOCABULARY["<video>"],
        "initializer_range": 0.02,
        "intermediate_size": _MLP,
        "max_position_embeddings": 32768,
        "max_window_layers": 28,
        "mm_hidden_size": _SEEN,
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
        "num_attention_heads": _HEADS,
        "num_hidden_layers": _LAYERS,
        "num_key_value_heads": _KV,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 20000.0,
        "sliding_window": 131072,
        "text_config": {"model_type": "llama"},  # left behind by transformers' class for `llava`
        "tie_word_embeddings": False,
        "tokenizer_model_max_length": 32768,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.40.0.dev0",
        "use_cache": True,
        "use_mm_proj": True,
        "use_sliding_window": False,
        "vocab_size": len(VOCABULARY),
        # The published file says nothing of SigLIP, as there is but one; this is the only entry that differs.
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": _SEEN,
            "intermediate_size": _SEEN_MLP,
            "num_hidden_layers": _TOWER_LAYERS,
            "num_attention_heads": 2,
            "image_size": 4 * _SIDE,
            "patch_size": 4,
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
    _shards(folder, _tensors(len(VOCABULARY), seed))
    _tokenizer(folder)
    return folder


def _tensors(words: int, seed: int) -> dict[str, Tensor]:
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (words, _WIDTH),
        "model.norm.weight": (_WIDTH,),
        "lm_head.weight": (words, _WIDTH),
        "model.image_newline": (_WIDTH,),
        **_linear("model.mm_projector.0", _SEEN, _WIDTH),
        **_linear("model.mm_projector.2", _WIDTH, _WIDTH),
        f"{TOWER}.embeddings.patch_embedding.weight": (_SEEN, 3, 4, 4),
        f"{TOWER}.embeddings.patch_embedding.bias": (_SEEN,),
        f"{TOWER}.embeddings.position_embedding.weight": (_SIDE**2, _SEEN),
        **_norm(f"{TOWER}.post_layernorm"),
    }
    for i in range(_TOWER_LAYERS - 1):
        layer = f"{TOWER}.encoder.layers.{i}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _linear(f"{layer}.self_attn.{name}", _SEEN, _SEEN)
        shapes |= _norm(f"{layer}.layer_norm1") | _norm(f"{layer}.layer_norm2")
        shapes |= _linear(f"{layer}.mlp.fc1", _SEEN, _SEEN_MLP) | _linear(f"{layer}.mlp.fc2", _SEEN_MLP, _SEEN)
    for i in range(_LAYERS):
        layer = f"model.layers.{i}"
        narrow = _WIDTH // _HEADS * _KV
        for name, width in (("q_proj", _WIDTH), ("k_proj", narrow), ("v_proj", narrow)):
            shapes |= _linear(f"{layer}.self_attn.{name}", _WIDTH, width)
        shapes[f"{layer}.self_attn.o_proj.weight"] = (_WIDTH, _WIDTH)
        shapes |= {f"{layer}.{name}.weight": (_WIDTH,) for name in ("input_layernorm", "post_attention_layernorm")}
        shapes |= {f"{layer}.mlp.{name}.weight": (_MLP, _WIDTH) for name in ("gate_proj", "up_proj")}
        shapes[f"{layer}.mlp.down_proj.weight"] = (_WIDTH, _MLP)
    chance = torch.Generator().manual_seed(seed)
    tensors = {name: 0.3 * torch.randn(shape, generator=chance) for name, shape in shapes.items()}
    return {
        name: tensor + 1 if "norm" in name and name.endswith("weight") else tensor for name, tensor in tensors.items()
    }


def _linear(name: str, width: int, out: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, width), f"{name}.bias": (out,)}


def _norm(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (_SEEN,), f"{name}.bias": (_SEEN,)}


def _shards(folder: Path, tensors: dict[str, Tensor], count: int = 4) -> None:
    """As `save_pretrained` cuts them: whole tensors in the order of the model."""
    names = list(tensors)
    files: dict[str, str] = {}
    for i in range(count):
        file = f"model-{i + 1:05}-of-{count:05}.safetensors"
        part = names[i * len(names) // count : (i + 1) * len(names) // count]
        save_file({name: tensors[name].contiguous() for name in part}, folder / file, {"format": "pt"})
        files |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
