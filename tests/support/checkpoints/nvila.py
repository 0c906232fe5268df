"""A tiny random checkpoint in the layout in which the authors publish NVILA: three folders and a config.json above."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from tests.support.checkpoints.llava_video import _linear, _norm, _shards
from tests.support.checkpoints.parts import SPECIAL, VOCABULARY

WORDS = {**VOCABULARY, "\n": len(VOCABULARY)}
TSP = {"_target_": "llava.model.encoders.TSPVideoEncoder", "pool_sizes": [[2, 1, 1]]}
BASIC = {"_target_": "llava.model.encoders.BasicVideoEncoder"}
CHATML = """{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- for m in messages %}{{ '<|im_start|>' ~ m.role ~ '\\n' ~ m.content ~ '<|im_end|>\\n' }}{% endfor -%}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
_WIDTH, _MLP, _SEEN, _SEEN_MLP = 48, 64, 32, 48  # of the LLM and of SigLIP
_LAYERS, _TOWER_LAYERS = 3, 4
_HEADS, _KV = 4, 2
SIDE = 7  # patches


def nvila_checkpoint(
    folder: Path, seed: int = 0, projector: str = "mlp_downsample_2x2_fix", tied: bool = False, **changes: Any
) -> Path:
    """NVILA-8B-Video in small: 28-pixel frames, 7 x 7 patches to 4 x 4 tokens, two frames a slot.

    `changes` to config.json; None takes an entry out.
    """
    llm = {
        "architectures": ["Qwen2ForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": VOCABULARY["<pad>"],
        "eos_token_id": VOCABULARY["<|im_end|>"],
        "hidden_act": "silu",
        "hidden_size": _WIDTH,
        "initializer_range": 0.02,
        "intermediate_size": _MLP,
        "max_position_embeddings": 32768,
        "max_window_layers": 28,
        "model_max_length": 8192,
        "model_type": "qwen2",
        "num_attention_heads": _HEADS,
        "num_hidden_layers": _LAYERS,
        "num_key_value_heads": _KV,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 20000.0,
        "sliding_window": None,
        "tie_word_embeddings": tied,
        "tokenizer_model_max_length": 8192,
        "tokenizer_padding_side": "right",
        "torch_dtype": "bfloat16",
        "transformers_version": "4.46.0",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": len(WORDS),
    }
    tower = {
        "architectures": ["SiglipVisionModel"],
        "attention_dropout": 0.0,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": _SEEN,
        "image_size": 4 * SIDE,
        "intermediate_size": _SEEN_MLP,
        "layer_norm_eps": 1e-06,
        "model_type": "siglip_vision_model",
        "num_attention_heads": 2,
        "num_channels": 3,
        "num_hidden_layers": _TOWER_LAYERS,
        "num_image_tokens": 256,
        "patch_size": 4,
        "projection_dim": 2048,
        "projector_hidden_act": "gelu_fast",
        "torch_dtype": "bfloat16",
        "transformers_version": "4.46.0",
        "vision_use_head": False,
    }
    between = {"architectures": ["MultimodalProjector"], "mm_projector_type": projector, "model_type": "v2l_projector"}
    scales = 3 if changes.get("dynamic_s2") else 1
    config = {
        "_name_or_path": "runs/train/somewhere/model",
        "architectures": ["LlavaLlamaModel"],
        "chat_template": None,
        "drop_path_rate": 0.0,
        "dynamic_s2": False,
        "fps": 0.0,
        "hidden_size": _WIDTH,
        "image_aspect_ratio": "resize",
        "interpolate_mode": "linear",
        "llm_cfg": llm,
        "mm_hidden_size": _SEEN * scales,
        "mm_projector_cfg": between,
        "mm_projector_lr": None,
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "cls_patch",
        "mm_vision_select_layer": -2,
        "model_dtype": "torch.bfloat16",
        "model_type": "llava_llama",
        "num_video_frames": 8,
        "resume_path": "runs/train/somewhere/model",
        "s2": False,
        "s2_max_split_size": 28,
        "s2_scales": "28,56,84",
        "transformers_version": "4.46.0",
        "tune_language_model": True,
        "video_encoder": json.dumps(TSP),
        "video_max_tiles": 1,
        "vision_resolution": -1,
        "vision_tower_cfg": tower,
    }
    settings = {
        "do_convert_rgb": None,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "SiglipImageProcessor",
        "image_std": [0.5, 0.5, 0.5],
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"height": 4 * SIDE, "width": 4 * SIDE},
    }
    # The penalty is Qwen2's own: the authors' code does not read this file.
    generation = {"do_sample": True, "eos_token_id": VOCABULARY["<|im_end|>"], "repetition_penalty": 1.3, "top_k": 20}
    files = {
        "config.json": {name: entry for name, entry in (config | changes).items() if entry is not None},
        "llm/config.json": llm,
        "llm/generation_config.json": generation,
        "vision_tower/config.json": tower,
        "vision_tower/preprocessor_config.json": settings,
        "mm_projector/config.json": between,
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=2))
    _tokenizer(folder / "llm")
    chance = torch.Generator().manual_seed(seed)
    _shards(folder / "llm", _random(_llm(tied), chance))
    save_file(_random(_tower(), chance), folder / "vision_tower" / "model.safetensors", {"format": "pt"})
    save_file(
        _random(_projector(projector, _SEEN * scales), chance),
        folder / "mm_projector" / "model.safetensors",
        {"format": "pt"},
    )
    return folder


def _llm(tied: bool) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (len(WORDS), _WIDTH),
        "model.norm.weight": (_WIDTH,),
    }
    if not tied:
        shapes["lm_head.weight"] = (len(WORDS), _WIDTH)
    for i in range(_LAYERS):
        layer = f"model.layers.{i}"
        for name, width in (("q_proj", _WIDTH), ("k_proj", _WIDTH // 2), ("v_proj", _WIDTH // 2)):
            shapes |= _linear(f"{layer}.self_attn.{name}", _WIDTH, width)
        shapes[f"{layer}.self_attn.o_proj.weight"] = (_WIDTH, _WIDTH)
        shapes |= {f"{layer}.{name}.weight": (_WIDTH,) for name in ("input_layernorm", "post_attention_layernorm")}
        shapes |= {f"{layer}.mlp.{name}.weight": (_MLP, _WIDTH) for name in ("gate_proj", "up_proj")}
        shapes[f"{layer}.mlp.down_proj.weight"] = (_WIDTH, _MLP)
    return shapes


def _tower() -> dict[str, tuple[int, ...]]:
    """All layers: the last one is in the checkpoint and not in use."""
    shapes: dict[str, tuple[int, ...]] = {
        "vision_model.embeddings.patch_embedding.weight": (_SEEN, 3, 4, 4),
        "vision_model.embeddings.patch_embedding.bias": (_SEEN,),
        "vision_model.embeddings.position_embedding.weight": (SIDE**2, _SEEN),
        **_norm("vision_model.post_layernorm"),
    }
    for i in range(_TOWER_LAYERS):
        layer = f"vision_model.encoder.layers.{i}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _linear(f"{layer}.self_attn.{name}", _SEEN, _SEEN)
        shapes |= _norm(f"{layer}.layer_norm1") | _norm(f"{layer}.layer_norm2")
        shapes |= _linear(f"{layer}.mlp.fc1", _SEEN, _SEEN_MLP) | _linear(f"{layer}.mlp.fc2", _SEEN_MLP, _SEEN)
    return shapes


def _projector(name: str, seen: int) -> dict[str, tuple[int, ...]]:
    """Published indices: a norm and a linear layer each, functions without weights between them."""
    if name == "mlp_downsample_3x3_fix":
        norms, linears = {1: 9 * seen, 4: 3 * seen}, {2: (9 * seen, 3 * seen), 5: (3 * seen, _WIDTH), 7: (_WIDTH,) * 2}
    else:
        norms, linears = {1: 4 * seen}, {2: (4 * seen, _WIDTH), 4: (_WIDTH,) * 2}
    shapes: dict[str, tuple[int, ...]] = {}
    for i, width in norms.items():
        shapes |= {f"layers.{i}.weight": (width,), f"layers.{i}.bias": (width,)}
    for i, (width, out) in linears.items():
        shapes |= _linear(f"layers.{i}", width, out)
    return shapes


def _random(shapes: dict[str, tuple[int, ...]], chance: torch.Generator) -> dict[str, Tensor]:
    """Noise; weights of norms, which have one dimension, lie around 1."""
    tensors = {name: 0.3 * torch.randn(shape, generator=chance) for name, shape in shapes.items()}
    return {name: t + 1 if t.ndim == 1 and name.endswith("weight") else t for name, t in tensors.items()}


def _tokenizer(folder: Path) -> None:
    """The vocabulary of the other tiny checkpoints and the newline; the token for a video is not in the files."""
    inner = Tokenizer(models.WordLevel(WORDS, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.add_tokens([AddedToken("\n", normalized=False)])
    PreTrainedTokenizerFast(
        tokenizer_object=inner,
        unk_token="<unk>",
        pad_token="<pad>",
        eos_token="<|im_end|>",
        additional_special_tokens=[token for token in SPECIAL[2:] if token != "<video>"],
    ).save_pretrained(folder)
    path = folder / "tokenizer_config.json"  # where transformers 4 wrote the template
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": CHATML}))
