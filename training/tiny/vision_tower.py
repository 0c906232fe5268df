"""The forward pass of the vision tower on clips of the generator, written out for speed on a CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stsimdiff_cli.synthetic.shapes import SIDE

PATCH, MERGE = 8, 2
GRID = SIDE // (PATCH * MERGE)  # 6 x 6 tokens a slot
CELLS = GRID * GRID
HIDDEN = 192  # width of a token feature


def patches_of(frames: np.ndarray | Tensor) -> Tensor:
    """(F, 96, 96, 3) uint8 -> (F, 144, 192) float32, in the order of the Qwen2-VL video processor."""
    return cut_patches(torch.as_tensor(frames).permute(0, 3, 1, 2).float().div(255).sub(0.5).div(0.25))


def cut_patches(x: Tensor) -> Tensor:
    """(F, C, 96, 96) -> (F, 144, C * 64): patches, in groups of the four that are merged into a token."""
    n, channels = GRID, x.shape[1]
    x = x.reshape(-1, channels, n, MERGE, PATCH, n, MERGE, PATCH).permute(0, 2, 5, 3, 6, 1, 4, 7)
    return x.reshape(x.shape[0], n * n * MERGE * MERGE, channels * PATCH * PATCH)


def linear(layer: torch.nn.Linear, x: Tensor) -> Tensor:
    """The layer in the dtype of x."""
    bias = None if layer.bias is None else layer.bias.to(x.dtype)
    return F.linear(x, layer.weight.to(x.dtype), bias)


def rms_norm(norm: Any, x: Tensor) -> Tensor:
    """Root-mean-square norm in the dtype of x."""
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * norm.weight.to(x.dtype)


def gated(mlp: Any, x: Tensor) -> Tensor:
    """The gated feed-forward block in the dtype of x."""
    return linear(mlp.down_proj, F.silu(linear(mlp.gate_proj, x)) * linear(mlp.up_proj, x))


def encode(visual: Any, patches: Tensor, early: list[Tensor] | None = None) -> Tensor:
    """(F, 144, 192) -> (F, 36, 192): the vision tower on frames of one size, in the dtype of the patches.

    It computes the same as `visual(pixels, grid_thw)`, which loops over the frames in Python. In bfloat16 on one CPU
    thread this is several times faster, and explicit attention has a faster backward pass than the fused kernel.
    The output of the first block, (F, 144, 128), is appended to `early`.
    """
    n, length, _ = patches.shape
    cos, sin = (t.to(patches.dtype) for t in rotary_tables(visual, length))
    x = F.linear(patches, visual.patch_embed.proj.weight.flatten(1).to(patches.dtype))
    for block in visual.blocks:
        attn = block.attn
        heads = attn.num_heads
        qkv = linear(attn.qkv, rms_norm(block.norm1, x)).view(n, length, 3, heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).reshape(3, n * heads, length, -1)
        q, k = rotate(q, cos, sin) * attn.scaling, rotate(k, cos, sin)
        mixed = (q @ k.transpose(1, 2)).softmax(-1) @ v
        x = x + linear(attn.proj, mixed.view(n, heads, length, -1).transpose(1, 2).reshape(n, length, -1))
        x = x + gated(block.mlp, rms_norm(block.norm2, x))
        if early is not None and not early:
            early.append(x)
    merger = visual.merger
    x = rms_norm(merger.ln_q, x).view(n, length // MERGE**2, -1)
    return linear(merger.mlp[2], F.gelu(linear(merger.mlp[0], x)))


def rotary_tables(visual: Any, length: int) -> tuple[Tensor, Tensor]:
    """cos and sin, each (144, head_dim), of the patches of a frame, ordered as in patches_of. ValueError for others."""
    n = GRID
    if length != (n * MERGE) ** 2:
        raise ValueError(f"got {length} patches a frame, expected {(n * MERGE) ** 2}")
    axis = torch.arange(n * MERGE)
    rows, cols = torch.meshgrid(axis, axis, indexing="ij")
    order = [t.reshape(n, MERGE, n, MERGE).permute(0, 2, 1, 3).flatten() for t in (rows, cols)]
    weight = visual.patch_embed.proj.weight
    return visual.rotary_pos_emb(weight, torch.stack(order, -1))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding of (..., length, head_dim)."""
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin
