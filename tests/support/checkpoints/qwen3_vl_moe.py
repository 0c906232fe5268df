"""A tiny random checkpoint of Qwen3-VL with a mixture of experts."""

from __future__ import annotations

from pathlib import Path

from transformers import Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration

from tests.support.checkpoints.qwen3_vl import as_published, save_checkpoint


def qwen3_vl_moe_checkpoint(folder: Path, seed: int = 0) -> Path:
    """Qwen3-VL in small with four experts, two of which process each token."""
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    save_checkpoint(folder, seed, Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration, experts, {})
    return as_published(folder)
