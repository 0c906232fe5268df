"""Qwen3.5 with a mixture of experts in its LLM (35B-A3B and larger); everything else is that of Qwen3.5."""

from __future__ import annotations

from typing import ClassVar

from .qwen3_5 import Qwen35


class Qwen35Moe(Qwen35):
    """The same tokens, prompts and positions."""

    name: ClassVar[str] = "qwen3_5_moe"
