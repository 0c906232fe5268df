"""Qwen3-VL with a mixture of experts in its LLM (30B-A3B, 235B-A22B); everything else is that of Qwen3-VL."""

from __future__ import annotations

from typing import ClassVar

from .qwen3_vl import Qwen3VL


class Qwen3VLMoe(Qwen3VL):
    """The same tokens, prompts and positions."""

    name: ClassVar[str] = "qwen3_vl_moe"
