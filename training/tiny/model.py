"""The network: transformers' own Qwen2.5-VL, small, with a standard three-part rotary embedding.

How features say where something is: fixed directions of the feature space hold sines and cosines of the row and column
of a token and of the centre of the body under it (PLACE). The vision stage learns to write them, and two heads of the
language model begin by reading them (`look_back`), since the three-part rotary embedding gives rows and columns only
its slowest frequencies, which tell no two neighbouring cells apart.
"""

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

from stsimdiff_cli.synthetic.world import SIDE

from .tokenizer import save_tokenizer, vocabulary

PATCH, MERGE = 8, 2
GRID = SIDE // (PATCH * MERGE)  # 7 x 7 tokens a slot
CELLS = GRID * GRID
TOKENS_PER_SECOND = 8  # at 8 frames a second the temporal position grows by one a slot
HIDDEN, LAYERS, HEADS, HEAD = 256, 6, 4, 64
WIDTH, DEPTH = 128, 3  # of the vision tower
SECTIONS = (24, 4, 4)  # rotary frequencies of time, row and column: half of the head size
THETA = 100_000.0
HARMONICS = (1.0, 2.0, 3.0)  # half waves across the picture of the code of a place
VOCABULARY = 192

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


def place_directions() -> Tensor:
    """(4, 6, 256): orthonormal directions for row, column, and the centre's y and x, in float32, always the same."""
    generator = torch.Generator().manual_seed(2024)
    square = torch.randn(HIDDEN, HIDDEN, generator=generator, dtype=torch.float64)
    q, _ = torch.linalg.qr(square)
    return q[:, : 4 * 2 * len(HARMONICS)].T.reshape(4, 2 * len(HARMONICS), HIDDEN).float()


def place_code(where: Tensor) -> Tensor:
    """(..., 6): sines and cosines of places between 0 and 1, of length one."""
    angle = where[..., None] * torch.tensor(HARMONICS, device=where.device) * torch.pi
    return torch.cat([angle.cos(), angle.sin()], -1) / len(HARMONICS) ** 0.5


def make_config() -> Qwen2_5_VLConfig:
    """6.6 million parameters: 3 vision layers of width 128 with full attention, 6 text layers of width 256."""
    ids = vocabulary()
    text_ids: dict[str, Any] = {
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
        "tie_word_embeddings": True,
    }
    return Qwen2_5_VLConfig(
        vision_config={
            "depth": DEPTH,
            "hidden_size": WIDTH,
            "num_heads": WIDTH // 32,
            "intermediate_size": 384,
            "out_hidden_size": HIDDEN,
            "in_channels": 3,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 1,
            "tokens_per_second": TOKENS_PER_SECOND,
            "window_size": 1024,
            "fullatt_block_indexes": list(range(DEPTH)),
            "rope_parameters": {"rope_type": "axial", "rope_theta": 100.0},
        },
        text_config={
            "vocab_size": VOCABULARY,
            "hidden_size": HIDDEN,
            "intermediate_size": 704,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": HEADS,
            "max_position_embeddings": 32768,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": THETA, "mrope_section": list(SECTIONS)},
            "bos_token_id": None,
            **text_ids,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        **text_ids,
    )


def make_model(seed: int = 0) -> Any:
    """An untrained network in float32, the same for the same seed."""
    torch.manual_seed(seed)
    model: Any = Qwen2_5_VLForConditionalGeneration(make_config())
    taken = place_directions().flatten(0, 1)  # (24, 256)
    with torch.no_grad():  # word vectors of length one, away from the directions of places; blocks close to identity
        words = model.get_input_embeddings().weight
        torch.nn.init.normal_(words)
        words -= words @ taken.T @ taken
        words /= words.norm(dim=-1, keepdim=True)
        for name, p in model.named_parameters():
            if p.ndim == 2 and "embed_tokens" not in name:
                last = "language_model" in name and "down_proj" in name
                torch.nn.init.normal_(p, std=(0.1 if last else 0.7) * p.shape[1] ** -0.5)
        layers = model.model.language_model.layers
        for layer in layers:
            attn = layer.self_attn  # attention begins by looking for tokens like the asking one and copying them
            attn.k_proj.weight.copy_(attn.q_proj.weight)
            attn.o_proj.weight.copy_(0.3 * attn.v_proj.weight.T)
        for head in (0, 2):  # what these find (the same body, earlier) is written where the asker's own is not
            rows = slice(head * HEAD, (head + 1) * HEAD)
            attn = layers[1].self_attn
            attn.q_proj.weight[rows] *= 1.3
            attn.k_proj.weight[rows] *= 1.3
            attn.o_proj.weight[:, rows] = torch.randn(HIDDEN, HEAD) * 0.2 * HIDDEN**-0.5
        look_back(layers[0].self_attn, 0, 1.5)
        look_back(layers[0].self_attn, 1, 8.0)
    return model


def look_back(attn: Any, head: int, slots: float) -> None:
    """Lets a head begin by reading the same cell about `slots` slots earlier.

    Biases of query and key give a sum of cosines of the distance in time, which peaks there; the pairs of the slow
    frequencies of rows and columns hold the code of the token's cell, which matches that of the same cell.
    """
    half, time = HEAD // 2, SECTIONS[0]
    rows = slice(head * HEAD, (head + 1) * HEAD)
    frequency = THETA ** (-torch.arange(half) / half)
    weight = torch.zeros(half)
    weight[:time] = 12.0 * torch.exp(-((frequency[:time].log() + np.log(slots)) ** 2) / 1.5)
    shift = frequency * slots
    length = weight.sqrt()
    attn.k_proj.bias[rows] = torch.cat([length, torch.zeros(half)])
    attn.q_proj.bias[rows] = torch.cat([length * shift.cos(), -length * shift.sin()])
    cells = place_directions()[:2].flatten(0, 1)  # (12, 256): the code of the token's own row and column
    slow = [*range(time, half), *range(half + time, HEAD)][: len(cells)]
    for projection in (attn.q_proj, attn.k_proj):
        projection.weight[rows] *= 0.1
        projection.weight[head * HEAD + torch.tensor(slow)] = 3.75 * cells
    attn.o_proj.weight[:, rows] = torch.randn(HIDDEN, HEAD) * 0.2 * HIDDEN**-0.5


def working_type(device: torch.device) -> torch.dtype:
    """bfloat16 on a GPU, float32 on a CPU, where products of bfloat16 took twice as long."""
    return torch.float32 if device.type == "cpu" else torch.bfloat16


def patches_of(frames: np.ndarray | Tensor) -> Tensor:
    """(F, 112, 112, 3) uint8 -> (F, 196, 192) float32 in the layout of the Qwen2-VL video processor."""
    return cut_patches(torch.as_tensor(frames).permute(0, 3, 1, 2).float().div(255).sub(0.5).div(0.25))


def cut_patches(x: Tensor) -> Tensor:
    """(F, C, 112, 112) -> (F, 196, C * 64): patches in groups of the four that make a token."""
    channels = x.shape[1]
    x = x.reshape(-1, channels, GRID, MERGE, PATCH, GRID, MERGE, PATCH).permute(0, 2, 5, 3, 6, 1, 4, 7)
    return x.reshape(x.shape[0], CELLS * MERGE * MERGE, channels * PATCH * PATCH)


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
    """(F, 196, 192) -> (F, 49, 256): the vision tower on frames of one size, in the precision of the patches.

    The same sums as `visual(pixels, grid_thw)`, which loops over the frames in Python. The output of the first block
    (F, 196, 128) is appended to `early`.
    """
    n, length, _ = patches.shape
    cos, sin = (t.to(patches.dtype) for t in rotary(visual))
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


def rotary(visual: Any) -> tuple[Tensor, Tensor]:
    """cos and sin (196, head size) of the patches of one frame, in the order of patches_of."""
    weight = visual.patch_embed.proj.weight
    axis = torch.arange(GRID * MERGE, device=weight.device)
    rows, cols = torch.meshgrid(axis, axis, indexing="ij")
    order = [t.reshape(GRID, MERGE, GRID, MERGE).permute(0, 2, 1, 3).flatten() for t in (rows, cols)]
    return visual.rotary_pos_emb(weight, torch.stack(order, -1))


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding on (..., length, head size)."""
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


def export(model: Any, folder: Path) -> None:
    """Writes the checkpoint in bfloat16 next to `folder`, then moves its files into place one by one."""
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
