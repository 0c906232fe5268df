"""A tiny random checkpoint of Qwen3.5 with a mixture of experts."""

from __future__ import annotations

from pathlib import Path

from transformers import Qwen3_5MoeConfig, Qwen3_5MoeForConditionalGeneration

from tests.support.checkpoints.qwen3_5 import HYBRID, OWN
from tests.support.checkpoints.qwen3_vl import save_checkpoint


def qwen3_5_moe_checkpoint(folder: Path, seed: int = 0) -> Path:
    """Qwen3.5 in small with four experts, two of which process each token, and one that processes all."""
    sizes = {"moe_intermediate_size": 32, "shared_expert_intermediate_size": 32}
    text = HYBRID | {"num_experts": 4, "num_experts_per_tok": 2, **sizes}
    return save_checkpoint(folder, seed, Qwen3_5MoeConfig, Qwen3_5MoeForConditionalGeneration, text, {}, **OWN)
