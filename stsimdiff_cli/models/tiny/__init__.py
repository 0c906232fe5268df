"""The embedded model: a small Qwen2.5-VL trained on clips of moving shapes. See README.md in this folder."""

from pathlib import Path

CHECKPOINT = Path(__file__).parent / "checkpoint"

__all__ = ["CHECKPOINT"]
