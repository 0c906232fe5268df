"""The network (transformers' own Qwen2.5-VL, small), its two preprocessor files and the export of a checkpoint."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import GenerationConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from stsimdiff_cli.synthetic.shapes import SIDE

from .tokenizer import save_tokenizer, vocabulary

PATCH, MERGE = 8, 2
GRID = SIDE // (PATCH * MERGE)  # 6 x 6 tokens a slot
CELLS = GRID * GRID
TOKENS_PER_SECOND = 8  # at 8 frames a second the temporal position grows by one a slot
HIDDEN = 192
PREPROCESSOR = {
    "do_resize": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "do_convert_rgb": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.25, 0.25, 0.25],
    "resample": 3,
    "patch_size": PATCH,
    "temporal_patch_size": 1,
    "merge_size": MERGE,
    "size": {"shortest_edge": SIDE * SIDE, "longest_edge": SIDE * SIDE},
    "min_pixels": SIDE * SIDE,
    "max_pixels": SIDE * SIDE,
    "processor_class": "Qwen2_5_VLProcessor",
}


def make_config() -> Qwen2_5_VLConfig:
    """2.8 million parameters: 3 vision layers of width 128 with full attention, 4 text layers of width 192."""
    ids = vocabulary()
    text_ids: dict[str, Any] = {
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
        "tie_word_embeddings": True,
    }
    return Qwen2_5_VLConfig(
        vision_config={
            "depth": 3,
            "hidden_size": 128,
            "num_heads": 4,
            "intermediate_size": 384,
            "out_hidden_size": HIDDEN,
            "in_channels": 3,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 1,
            "tokens_per_second": TOKENS_PER_SECOND,
            "window_size": 1024,
            "fullatt_block_indexes": [0, 1, 2],
            "rope_parameters": {"rope_type": "axial", "rope_theta": 100.0},
        },
        text_config={
            "vocab_size": 128,
            "hidden_size": HIDDEN,
            "intermediate_size": 512,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 32768,
            "rms_norm_eps": 1e-6,
            # One frequency in turn for time, row and column, 24 in all (half of the head dimension).
            "rope_parameters": {"rope_type": "default", "rope_theta": 300.0, "mrope_section": [1] * 24},
            "bos_token_id": None,
            **text_ids,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        **text_ids,
    )


def make_model(seed: int = 0) -> Qwen2_5_VLForConditionalGeneration:
    """An untrained network in float32, the same for the same seed."""
    torch.manual_seed(seed)
    model: Any = Qwen2_5_VLForConditionalGeneration(make_config())
    with torch.no_grad():  # word vectors of length one; blocks that begin close to the identity
        torch.nn.init.normal_(model.get_input_embeddings().weight, std=HIDDEN**-0.5)
        for name, p in model.named_parameters():
            if p.ndim == 2 and "embed_tokens" not in name:
                last = "language_model" in name and "down_proj" in name
                torch.nn.init.normal_(p, std=(0.1 if last else 0.7) * p.shape[1] ** -0.5)
        for layer in model.model.language_model.layers:
            attn = layer.self_attn  # attention begins by looking for tokens like the asking one and copying them
            attn.k_proj.weight.copy_(attn.q_proj.weight)
            attn.o_proj.weight.copy_(0.3 * attn.v_proj.weight.T)
        first, second = (layer.self_attn for layer in model.model.language_model.layers[:2])
        for head in (0, 2):  # what these find (the same object, earlier) is written where the asker's own is not
            rows = slice(head * second.head_dim, (head + 1) * second.head_dim)
            second.q_proj.weight[rows] *= 1.3
            second.k_proj.weight[rows] *= 1.3
            second.o_proj.weight[:, rows] = torch.randn(HIDDEN, second.head_dim) * 0.2 * HIDDEN**-0.5
        look_back(first, 0, 2, [20.0, 20.0, 4.0, 4.0, 0.0, 0.0, 0.0, 0.0])
        look_back(first, 1, 10, [0.0, 0.0, 20.0, 20.0, 4.0, 4.0, 0.0, 0.0])
    return model


def look_back(attn: Any, head: int, slots: int, weights: list[float]) -> None:
    """Lets a head begin by reading the same cell about `slots` slots earlier, through its biases alone.

    With rotary positions the constant parts of query and key give a score that depends on the distance in time, row
    and column only: a sum of cosines, weighted here so that it peaks at that distance. weights are those of the eight
    frequencies of time.
    """
    size = attn.head_dim
    rows = slice(head * size, (head + 1) * size)
    table = torch.zeros(size // 2)
    shift = torch.zeros(size // 2)
    table[0::3] = torch.tensor(weights)
    table[1::3] = torch.tensor([60.0, 30.0, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    table[2::3] = torch.tensor([90.0, 45.0, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    frequency = 300.0 ** (-torch.arange(size // 2) / (size // 2))
    shift[0::3] = frequency[0::3] * slots
    length = table.sqrt()
    attn.k_proj.bias[rows] = torch.cat([length, torch.zeros_like(length)])
    attn.q_proj.bias[rows] = torch.cat([length * shift.cos(), -length * shift.sin()])
    for projection in (attn.q_proj, attn.k_proj):
        projection.weight[rows] *= 0.1
    attn.o_proj.weight[:, rows] = torch.randn(HIDDEN, size) * 0.3 * 0.7 * HIDDEN**-0.5


def patches_of(frames: np.ndarray | Tensor) -> Tensor:
    """(F, 96, 96, 3) uint8 -> (F, 144, 192) float32 in the layout of the Qwen2-VL video processor."""
    return cut_patches(torch.as_tensor(frames).permute(0, 3, 1, 2).float().div(255).sub(0.5).div(0.25))


def cut_patches(x: Tensor) -> Tensor:
    """(F, C, 96, 96) -> (F, 144, C * 64): patches in groups of the four that make a token."""
    n, channels = SIDE // (PATCH * MERGE), x.shape[1]
    x = x.reshape(-1, channels, n, MERGE, PATCH, n, MERGE, PATCH).permute(0, 2, 5, 3, 6, 1, 4, 7)
    return x.reshape(x.shape[0], n * n * MERGE * MERGE, channels * PATCH * PATCH)


def linear(layer: torch.nn.Linear, x: Tensor) -> Tensor:
    """The layer in the precision of x."""
    bias = None if layer.bias is None else layer.bias.to(x.dtype)
    return F.linear(x, layer.weight.to(x.dtype), bias)


def rms_norm(norm: Any, x: Tensor) -> Tensor:
    """Root-mean-square norm in the precision of x."""
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * norm.weight.to(x.dtype)


def gated(mlp: Any, x: Tensor) -> Tensor:
    """The gated feed-forward block in the precision of x."""
    return linear(mlp.down_proj, F.silu(linear(mlp.gate_proj, x)) * linear(mlp.up_proj, x))


def encode(visual: Any, patches: Tensor, early: list[Tensor] | None = None) -> Tensor:
    """(F, 144, 192) -> (F, 36, 192): the vision tower on frames of one size, in the precision of the patches.

    The same sums as `visual(pixels, grid_thw)`, which loops over the frames in Python: in bfloat16 on one CPU thread
    this is several times faster, and written-out attention has a faster backward pass than the fused one.
    The output of the first block (F, 144, 128) is appended to `early`.
    """
    n, length, _ = patches.shape
    cos, sin = (t.to(patches.dtype) for t in rotary(visual, length))
    x = F.linear(patches, visual.patch_embed.proj.weight.flatten(1).to(patches.dtype))
    for block in visual.blocks:
        attn = block.attn
        heads = attn.num_heads
        qkv = linear(attn.qkv, rms_norm(block.norm1, x)).view(n, length, 3, heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).reshape(3, n * heads, length, -1)
        q, k = turn(q, cos, sin) * attn.scaling, turn(k, cos, sin)
        mixed = (q @ k.transpose(1, 2)).softmax(-1) @ v
        x = x + linear(attn.proj, mixed.view(n, heads, length, -1).transpose(1, 2).reshape(n, length, -1))
        x = x + gated(block.mlp, rms_norm(block.norm2, x))
        if early is not None and not early:
            early.append(x)
    merger = visual.merger
    x = rms_norm(merger.ln_q, x).view(n, length // MERGE**2, -1)
    return linear(merger.mlp[2], F.gelu(linear(merger.mlp[0], x)))


def rotary(visual: Any, length: int) -> tuple[Tensor, Tensor]:
    """cos and sin (144, head_dim) of the patches of one frame, in the order of patches_of."""
    n = SIDE // (PATCH * MERGE)
    if length != (n * MERGE) ** 2:
        raise ValueError(f"got {length} patches a frame, expected {(n * MERGE) ** 2}")
    axis = torch.arange(n * MERGE)
    rows, cols = torch.meshgrid(axis, axis, indexing="ij")
    order = [t.reshape(n, MERGE, n, MERGE).permute(0, 2, 1, 3).flatten() for t in (rows, cols)]
    weight = visual.patch_embed.proj.weight
    return visual.rotary_pos_emb(weight, torch.stack(order, -1))


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding on (..., length, head_dim)."""
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


def export(model: Qwen2_5_VLForConditionalGeneration, folder: Path) -> None:
    """Writes the checkpoint in bfloat16 beside `folder`, then moves its files into place one by one."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = vocabulary()
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        fresh = Path(name)
        twin: Any = make_model()
        twin.to(torch.bfloat16)
        twin.load_state_dict(model.state_dict())
        twin.generation_config = GenerationConfig(
            eos_token_id=ids["<|im_end|>"], pad_token_id=ids["<|endoftext|>"], do_sample=False, max_new_tokens=16
        )
        twin.save_pretrained(fresh)
        save_tokenizer(fresh)
        for file, extra in (
            ("preprocessor_config.json", {"image_processor_type": "Qwen2VLImageProcessor"}),
            ("video_preprocessor_config.json", {"video_processor_type": "Qwen2VLVideoProcessor"}),
        ):
            (fresh / file).write_text(json.dumps(PREPROCESSOR | extra, indent=2) + "\n", encoding="utf-8")
        for path in sorted(fresh.iterdir()):
            path.chmod(0o644)
            path.replace(folder / path.name)
