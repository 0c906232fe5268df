"""Tensors by their names and shapes, for checkpoints that are written in their authors' own formats."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]
#: Sizes of the LLM (Qwen2) and of the vision tower (SigLIP).
WIDTH, MLP, LAYERS, HEADS, KV_HEADS = 48, 64, 3, 4, 2
VISION_WIDTH, VISION_MLP, VISION_LAYERS, VISION_HEADS = 32, 48, 4, 2
SIDE, PATCH = 7, 4  # patches along a side of a frame, pixels along a side of a patch


def linear(name: str, width: int, out: int) -> Shapes:
    """A linear layer with bias."""
    return {f"{name}.weight": (out, width), f"{name}.bias": (out,)}


def qwen2(words: int, tied: bool = False, width: int = WIDTH) -> Shapes:
    """Input embeddings, layers, norm and, unless it is tied, LM head."""
    shapes: Shapes = {"model.embed_tokens.weight": (words, width), "model.norm.weight": (width,)}
    if not tied:
        shapes["lm_head.weight"] = (words, width)
    return shapes


def qwen2_layers(width: int = WIDTH) -> Shapes:
    """The layers of the LLM."""
    shapes: Shapes = {}
    for i in range(LAYERS):
        layer = f"model.layers.{i}"
        narrow = width // HEADS * KV_HEADS
        for name, out in (("q_proj", width), ("k_proj", narrow), ("v_proj", narrow)):
            shapes |= linear(f"{layer}.self_attn.{name}", width, out)
        shapes[f"{layer}.self_attn.o_proj.weight"] = (width, width)
        shapes |= {f"{layer}.{name}.weight": (width,) for name in ("input_layernorm", "post_attention_layernorm")}
        shapes |= {f"{layer}.mlp.{name}.weight": (MLP, width) for name in ("gate_proj", "up_proj")}
        shapes[f"{layer}.mlp.down_proj.weight"] = (width, MLP)
    return shapes


def siglip(prefix: str, layers: int) -> Shapes:
    """Embeddings, the norm after the last layer, and layers."""
    shapes: Shapes = {
        f"{prefix}.embeddings.patch_embedding.weight": (VISION_WIDTH, 3, PATCH, PATCH),
        f"{prefix}.embeddings.patch_embedding.bias": (VISION_WIDTH,),
        f"{prefix}.embeddings.position_embedding.weight": (SIDE**2, VISION_WIDTH),
        **_norm(f"{prefix}.post_layernorm"),
    }
    for i in range(layers):
        layer = f"{prefix}.encoder.layers.{i}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= linear(f"{layer}.self_attn.{name}", VISION_WIDTH, VISION_WIDTH)
        shapes |= _norm(f"{layer}.layer_norm1") | _norm(f"{layer}.layer_norm2")
        shapes |= linear(f"{layer}.mlp.fc1", VISION_WIDTH, VISION_MLP)
        shapes |= linear(f"{layer}.mlp.fc2", VISION_MLP, VISION_WIDTH)
    return shapes


def _norm(name: str) -> Shapes:
    return {f"{name}.weight": (VISION_WIDTH,), f"{name}.bias": (VISION_WIDTH,)}


def noise(shapes: Shapes, generator: torch.Generator) -> dict[str, Tensor]:
    """Random tensors; weights of norms, which are those of the name or of one dimension, are around 1."""
    tensors = {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return {name: t + 1 if t.ndim == 1 and name.endswith("weight") else t for name, t in tensors.items()}


def save_shards(folder: Path, tensors: dict[str, Tensor], count: int = 4) -> None:
    """As `save_pretrained` divides them: whole tensors in the order of the model."""
    names = list(tensors)
    files: dict[str, str] = {}
    for i in range(count):
        file = f"model-{i + 1:05}-of-{count:05}.safetensors"
        part = names[i * len(names) // count : (i + 1) * len(names) // count]
        save_file({name: tensors[name].contiguous() for name in part}, folder / file, {"format": "pt"})
        files |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
