"""The embedded models: small Qwen2.5-VLs trained on clips of moving shapes. See README.md in this folder."""

from pathlib import Path

#: The folders of tiny, and of tiny-choice, which was trained on from it and answers multiple choice too.
CHECKPOINT = Path(__file__).parent / "checkpoint"
CHOICE = Path(__file__).parent / "choice"

__all__ = ["CHECKPOINT", "CHOICE"]
