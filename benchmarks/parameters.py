"""Writes the table of docs/models.md of what each step loads: parameters counted on the meta device, in bfloat16.

    python benchmarks/parameters.py

Models are built from published configurations by the functions that load real ones, trimmed as they trim them; no
weights are needed. Checkpoints without a preset have their configuration in configurations.json.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import torch

from stsimdiff_cli.models import FAMILIES
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.families.base import Family
from stsimdiff_cli.models.loading.checkpoint import DUMMY
from stsimdiff_cli.models.loading.presets import PRESETS, find_preset
from stsimdiff_cli.models.loading.quiet import quiet
from stsimdiff_cli.models.loading.random_weights import random_model
from stsimdiff_cli.models.loading.runtime import ResolvedRuntime
from stsimdiff_cli.models.loading.weights import load_language, load_vision

PAGE = Path(__file__).parent.parent / "docs" / "models.md"
#: Configurations of checkpoints without a preset.
CONFIGURATIONS = Path(__file__).parent / "configurations.json"
PLACE = re.compile(r"(<!-- parameters -->\n).*?(<!-- end -->)", re.S)
HEADER = ("checkpoint", "parameters", "whole", "`encode`", "importance", "`ask`")
META, BF16 = torch.device("meta"), torch.bfloat16


def configurations() -> dict[str, dict[str, Any]]:
    """config.json by checkpoint: those of the presets, and those of CONFIGURATIONS.

    An entry there is a whole config.json, or what differs from another one: `like` names a preset, or a checkpoint
    further up.
    """
    configs = {name: find_preset(name).config for name in PRESETS}
    for name, entry in json.loads(CONFIGURATIONS.read_text()).items():
        configs[name] = _changed(configs[entry.pop("like")], entry) if "like" in entry else entry
    return {find_preset(name).checkpoint if name in PRESETS else name: config for name, config in configs.items()}


def _changed(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The configuration with some entries changed; a dictionary changes entries within a part."""
    parts = {
        name: _changed(config.get(name, {}), change) for name, change in changes.items() if isinstance(change, dict)
    }
    return config | changes | parts


CONFIGS = configurations()
#: Checkpoints that `stsimdiff models` names and that have no row, because their configuration is not known.
LEFT_OUT = {
    "Efficient-Large-Model/NVILA-Lite-8B",
    "Efficient-Large-Model/NVILA-Lite-2B",
    "Qwen/Qwen3.5-4B",
    "Qwen/Qwen3.5-9B",
    "Qwen/Qwen3.5-27B",
    "Qwen/Qwen3.5-35B-A3B",
    "Qwen/Qwen2.5-Omni-3B",
    "Qwen/Qwen2.5-Omni-7B",
    "Qwen/Qwen3-Omni-30B-A3B-Instruct",
    "Qwen/Qwen3-Omni-30B-A3B-Thinking",
    "lkhl/VideoLLaMA3-2B-Image-HF",
    "lkhl/VideoLLaMA3-7B-Image-HF",
    "openbmb/MiniCPM-V-4.6-Thinking",
    "google/gemma-4-E2B-it",
    "google/gemma-4-E4B-it",
    "google/gemma-4-26B-A4B-it",
    "google/gemma-4-31B-it",
    "allenai/Molmo2-8B",
    "allenai/Molmo2-O-7B",
}


def checkpoints() -> list[str]:
    """The checkpoints that `stsimdiff models` names and whose configuration is known here, in its order."""
    named = [name for entry in FAMILIES.builtin.values() for name in entry.checkpoints]
    return [name for name in named if name in CONFIGS]


def counts(config: dict[str, Any]) -> dict[str, int]:
    """Parameters of the whole model, and of the parts that the steps load."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config | {DUMMY: True}))
        family = open_family(folder)
        models = {
            "whole": _whole(family),
            "encode": load_vision(family, ResolvedRuntime(META, BF16, "sdpa")),
            "importance": load_language(family, ResolvedRuntime(META, BF16, "sdpa"), family.attention_layer(1) + 1),
            "ask": load_language(family, ResolvedRuntime(META, BF16, "sdpa")),
        }
    return {step: sum(parameter.numel() for parameter in model.parameters()) for step, model in models.items()}


def _whole(family: Family) -> Any:
    with quiet():
        return random_model(family.config, META, BF16, "sdpa")


def table() -> str:
    """All checkpoints as a Markdown table; sizes in GB of 10^9 bytes."""
    lines = [" | ".join(HEADER), " | ".join(["---"] + ["---:"] * (len(HEADER) - 1))]
    for name in checkpoints():
        parameters = counts(CONFIGS[name])
        sizes = [f"{2 * count / 1e9:.2f} GB" for count in parameters.values()]
        lines.append(" | ".join([name, f"{parameters['whole']:,}", *sizes]))
    return "".join(f"| {line} |\n" for line in lines)


def filled(page: str) -> str:
    """The page with the table in its place."""
    return PLACE.sub(lambda match: f"{match[1]}\n{table()}\n{match[2]}", page)


def main() -> None:
    """Write the page, and print the table."""
    PAGE.write_text(filled(PAGE.read_text()))
    print(table(), end="")


if __name__ == "__main__":
    main()
