"""The embedded model: a small Qwen2.5-VL trained on rendered clips. See README.md in this folder."""

from pathlib import Path

CHECKPOINT = Path(__file__).parent / "checkpoint"

__all__ = ["CHECKPOINT"]
