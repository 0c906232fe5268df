"""The network (transformers' own Qwen2.5-VL, but small), its start values, and the export of a checkpoint."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from stsimdiff_cli.synthetic.shapes import SIDE

from .tokenizer import save_tokenizer, vocabulary
from .vision_tower import HIDDEN, MERGE, PATCH

TOKENS_PER_SECOND = 8  # at 8 frames a second the temporal position advances by one a slot
ROPE_THETA = 300.0

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
            # 24 frequencies (half of the head dimension), for time, row and column in turn.
            "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_THETA, "mrope_section": [1] * 24},
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
    """An untrained network in float32, always the same for a seed."""
    torch.manual_seed(seed)
    model: Any = Qwen2_5_VLForConditionalGeneration(make_config())
    with torch.no_grad():  # embeddings of length one; blocks that begin close to the identity
        torch.nn.init.normal_(model.get_input_embeddings().weight, std=HIDDEN**-0.5)
        for name, p in model.named_parameters():
            if p.ndim == 2 and "embed_tokens" not in name:
                last = "language_model" in name and "down_proj" in name
                torch.nn.init.normal_(p, std=(0.1 if last else 0.7) * p.shape[1] ** -0.5)
        for layer in model.model.language_model.layers:
            attn = layer.self_attn  # attention begins by finding tokens like the querying one and copying them
            attn.k_proj.weight.copy_(attn.q_proj.weight)
            attn.o_proj.weight.copy_(0.3 * attn.v_proj.weight.T)
        first, second = (layer.self_attn for layer in model.model.language_model.layers[:2])
        for head in (0, 2):  # what these find (the same shape, earlier) goes to directions of its own
            rows = slice(head * second.head_dim, (head + 1) * second.head_dim)
            second.q_proj.weight[rows] *= 1.3
            second.k_proj.weight[rows] *= 1.3
            second.o_proj.weight[:, rows] = torch.randn(HIDDEN, second.head_dim) * 0.2 * HIDDEN**-0.5
        look_back(first, 0, 2, [20.0, 20.0, 4.0, 4.0, 0.0, 0.0, 0.0, 0.0])
        look_back(first, 1, 10, [0.0, 0.0, 20.0, 20.0, 4.0, 4.0, 0.0, 0.0])
    return model


def look_back(attn: Any, head: int, slots: int, weights: list[float]) -> None:
    """Let a head begin by attending to the same cell about `slots` slots earlier, through its biases alone.

    With rotary positions, constant queries and keys give a score that depends only on the distance in time, row and
    column. It is a sum of cosines, weighted here so that it peaks at that distance; `weights` are those of the eight
    frequencies of time.
    """
    size = attn.head_dim
    rows = slice(head * size, (head + 1) * size)
    strength = torch.zeros(size // 2)
    shift = torch.zeros(size // 2)
    strength[0::3] = torch.tensor(weights)
    strength[1::3] = torch.tensor([60.0, 30.0, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    strength[2::3] = torch.tensor([90.0, 45.0, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    frequency = ROPE_THETA ** (-torch.arange(size // 2) / (size // 2))
    shift[0::3] = frequency[0::3] * slots
    length = strength.sqrt()
    attn.k_proj.bias[rows] = torch.cat([length, torch.zeros_like(length)])
    attn.q_proj.bias[rows] = torch.cat([length * shift.cos(), -length * shift.sin()])
    for projection in (attn.q_proj, attn.k_proj):
        projection.weight[rows] *= 0.1
    attn.o_proj.weight[:, rows] = torch.randn(HIDDEN, size) * 0.3 * 0.7 * HIDDEN**-0.5


def export(model: Qwen2_5_VLForConditionalGeneration, folder: Path) -> None:
    """Write the checkpoint in bfloat16 next to `folder`, then move its files into place one by one."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = vocabulary()
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        fresh = Path(name)
        copy: Any = make_model()
        copy.to(torch.bfloat16)
        copy.load_state_dict(model.state_dict())
        copy.generation_config = GenerationConfig(
            eos_token_id=ids["<|im_end|>"], pad_token_id=ids["<|endoftext|>"], do_sample=False, max_new_tokens=16
        )
        copy.save_pretrained(fresh)
        save_tokenizer(fresh)
        for file, extra in (
            ("preprocessor_config.json", {"image_processor_type": "Qwen2VLImageProcessor"}),
            ("video_preprocessor_config.json", {"video_processor_type": "Qwen2VLVideoProcessor"}),
        ):
            (fresh / file).write_text(json.dumps(PREPROCESSOR | extra, indent=2) + "\n", encoding="utf-8")
        for path in sorted(fresh.iterdir()):
            path.chmod(0o644)
            path.replace(folder / path.name)
