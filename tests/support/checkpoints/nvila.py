"""A tiny random checkpoint in the layout in which the authors publish NVILA: three folders and a config.json above."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from tests.support.checkpoints.parts import SPECIAL, VOCABULARY, extended, save_tokenizer
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

WORDS = extended(VOCABULARY, ["\n"])
TSP = {"_target_": "llava.model.encoders.TSPVideoEncoder", "pool_sizes": [[2, 1, 1]]}
BASIC = {"_target_": "llava.model.encoders.BasicVideoEncoder"}
CHATML = """{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- for m in messages %}{{ '<|im_start|>' ~ m.role ~ '\\n' ~ m.content ~ '<|im_end|>\\n' }}{% endfor -%}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""


def nvila_checkpoint(
    folder: Path, seed: int = 0, projector: str = "mlp_downsample_2x2_fix", tied: bool = False, **changes: Any
) -> Path:
    """NVILA-8B-Video in small: 28-pixel frames, 7 x 7 patches to 4 x 4 tokens, two frames a slot.

    `changes` to config.json; None removes an entry.
    """
    llm = {
        "architectures": ["Qwen2ForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": VOCABULARY["<pad>"],
        "eos_token_id": VOCABULARY["<|im_end|>"],
        "hidden_act": "silu",
        "hidden_size": WIDTH,
        "initializer_range": 0.02,
        "intermediate_size": MLP,
        "max_position_embeddings": 32768,
        "max_window_layers": 28,
        "model_max_length": 8192,
        "model_type": "qwen2",
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS,
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
        "hidden_size": VISION_WIDTH,
        "image_size": PATCH * SIDE,
        "intermediate_size": VISION_MLP,
        "layer_norm_eps": 1e-06,
        "model_type": "siglip_vision_model",
        "num_attention_heads": VISION_HEADS,
        "num_channels": 3,
        "num_hidden_layers": VISION_LAYERS,
        "num_image_tokens": 256,
        "patch_size": PATCH,
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
        "hidden_size": WIDTH,
        "image_aspect_ratio": "resize",
        "interpolate_mode": "linear",
        "llm_cfg": llm,
        "mm_hidden_size": VISION_WIDTH * scales,
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
        "size": {"height": PATCH * SIDE, "width": PATCH * SIDE},
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
    generator = torch.Generator().manual_seed(seed)
    save_shards(folder / "llm", noise(qwen2(len(WORDS), tied) | qwen2_layers(), generator))
    for part, shapes in (
        ("vision_tower", siglip("vision_model", VISION_LAYERS)),  # the last layer is in the checkpoint, but not used
        ("mm_projector", _projector(projector, VISION_WIDTH * scales)),
    ):
        save_file(noise(shapes, generator), folder / part / "model.safetensors", {"format": "pt"})
    return folder


def _projector(name: str, width: int) -> Shapes:
    """Under the published indices: norms and linear layers; modules without weights are between them."""
    if name == "mlp_downsample_3x3_fix":
        norms, linears = (
            {1: 9 * width, 4: 3 * width},
            {2: (9 * width, 3 * width), 5: (3 * width, WIDTH), 7: (WIDTH,) * 2},
        )
    else:
        norms, linears = {1: 4 * width}, {2: (4 * width, WIDTH), 4: (WIDTH,) * 2}
    shapes: Shapes = {}
    for i, size in norms.items():
        shapes |= {f"layers.{i}.weight": (size,), f"layers.{i}.bias": (size,)}
    for i, (size, out) in linears.items():
        shapes |= linear(f"layers.{i}", size, out)
    return shapes


def _tokenizer(folder: Path) -> None:
    """The vocabulary of the other tiny checkpoints and the newline; the files lack the token for a video."""
    inner = Tokenizer(models.WordLevel(WORDS, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.add_tokens([AddedToken("\n", normalized=False)])
    save_tokenizer(folder, inner, [token for token in SPECIAL[2:] if token != "<video>"])
    path = folder / "tokenizer_config.json"  # where transformers 4 wrote the template
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": CHATML}))
