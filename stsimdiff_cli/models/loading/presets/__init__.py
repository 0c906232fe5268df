"""Presets: published configurations for `stsimdiff profile --dummy-weights`, one JSON file each in this folder.

A preset is data: the entries of a checkpoint's config.json, the settings of its preprocessing, and as much of its
tokenizer and chat template as a prompt needs. To add one, write `<name>.json` with the fields of Preset here, and add
the name to PRESETS. Imports neither torch nor transformers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ....registry import unknown_name

#: The names of all presets, in the order in which they are listed.
PRESETS = (
    "llava-video-7b",
    "nvila-8b-video",
    "llava-onevision-0.5b",
    "qwen2.5-vl-7b",
    "qwen2.5-vl-3b",
    "qwen3-vl-8b",
    "internvl3-8b",
    "smolvlm2-2.2b",
    "smolvlm2-256m",
)


@dataclass(frozen=True)
class Preset:
    """A published configuration, and what its prompts and frames need."""

    checkpoint: str  # the hub id under which the configuration was published
    origin: str  # where the entries below come from
    tokens: str  # what its visual tokens are, in words
    config: dict[str, Any]  # config.json
    preprocessing: dict[str, dict[str, Any]]  # file name -> content
    special_tokens: dict[str, int]  # text -> id; the one with id 0, if any, stands for unknown words
    eos_token: str  # the special token that ends an answer
    chat_template: str  # empty where the family writes the whole prompt

    @property
    def summary(self) -> str:
        """One line for users."""
        return f"{self.checkpoint}: {self.tokens}"


@cache
def find_preset(name: str) -> Preset:
    """The preset of that name; RequestError with the nearest name if there is none."""
    if name not in PRESETS:
        raise unknown_name("preset", name, list(PRESETS))
    return Preset(**json.loads((Path(__file__).parent / f"{name}.json").read_text(encoding="utf-8")))
