"""Writes the table of docs/models.md of what each step loads: parameters counted on the meta device, in bfloat16.

    python benchmarks/parameters.py

Models are built from published configurations by the functions that load real ones, trimmed as they trim them; no
weights are needed. Checkpoints without a preset have their configuration here.
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
from stsimdiff_cli.models.loading.presets import PRESETS
from stsimdiff_cli.models.loading.published import (
    QWEN,
    encoder,
    internvl,
    llava_onevision,
    llava_video,
    llm,
    rope,
    smolvlm,
)
from stsimdiff_cli.models.loading.published_qwen import LARGE, QWEN_VL, SO400M, qwen3_vl
from stsimdiff_cli.models.loading.quiet import quiet
from stsimdiff_cli.models.loading.random_weights import random_model
from stsimdiff_cli.models.loading.runtime import ResolvedRuntime
from stsimdiff_cli.models.loading.weights import load_language, load_vision

PAGE = Path(__file__).parent.parent / "docs" / "models.md"
PLACE = re.compile(r"(<!-- parameters -->\n).*?(<!-- end -->)", re.S)
HEADER = ("checkpoint", "parameters", "whole", "`encode`", "importance", "`ask`")
META, BF16 = torch.device("meta"), torch.bfloat16


def qwen2_vl(text: dict[str, Any]) -> dict[str, Any]:
    """Qwen2-VL: the vision encoder is the same in all sizes."""
    vision = {"depth": 32, "embed_dim": 1280, "num_heads": 16, "mlp_ratio": 4, "hidden_size": text["hidden_size"]}
    grid = {"patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2}
    positions = rope(1e6, mrope_section=[16, 24, 24])
    return {
        "architectures": ["Qwen2VLForConditionalGeneration"],
        "model_type": "qwen2_vl",
        **QWEN_VL,
        "tie_word_embeddings": text["tie_word_embeddings"],
        "vision_config": {"model_type": "qwen2_vl_vision", **vision, **grid},
        "text_config": {"model_type": "qwen2_vl_text", **QWEN, **positions, **text},
    }


def qwen3_vl_moe(expert: int, text: dict[str, Any]) -> dict[str, Any]:
    """Qwen3-VL with 128 experts, whose MLPs have that width, in every layer."""
    config = qwen3_vl("", SO400M, text).config
    experts = {"num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": expert, "norm_topk_prob": True}
    return config | {
        "architectures": ["Qwen3VLMoeForConditionalGeneration"],
        "model_type": "qwen3_vl_moe",
        "vision_config": config["vision_config"] | {"model_type": "qwen3_vl_moe"},
        "text_config": config["text_config"] | {"model_type": "qwen3_vl_moe_text", **experts},
    }


def llava_next_video(text: dict[str, Any]) -> dict[str, Any]:
    """LLaVA-NeXT-Video: CLIP L at 336 pixels and a Vicuna 1.5, words added for <video>, <image> and padding."""
    clip = encoder(1024, 4096, 24, 16, image=336, patch=14)
    return {
        "architectures": ["LlavaNextVideoForConditionalGeneration"],
        "model_type": "llava_next_video",
        "video_token_index": 32000,
        "image_token_index": 32001,
        "tie_word_embeddings": text["tie_word_embeddings"],
        "vision_config": {"model_type": "clip_vision_model", "projection_dim": 768, **clip},
        "text_config": {"model_type": "llama", "rms_norm_eps": 1e-5, **rope(1e4), **text},
    }


def _smolvlm_500m() -> dict[str, Any]:
    siglip = encoder(768, 3072, 12, 12, image=512, patch=16)
    return smolvlm("", 100000.0, 4, siglip, llm(960, 2560, 32, 15, 5, 49280, tied=False)).config


_QWEN_7B = llm(3584, 18944, 28, 28, 4, 152064, tied=False)
_LLAVA_NEXT_VIDEO_7B = llava_next_video(llm(4096, 11008, 32, 32, 32, 32064, tied=False))

#: config.json by checkpoint.
CONFIGS = {preset.checkpoint: preset.config for preset in PRESETS.values()} | {
    "Qwen/Qwen3-VL-2B-Instruct": qwen3_vl("", LARGE, llm(2048, 6144, 28, 16, 8, 151936, tied=True)).config,
    "Qwen/Qwen3-VL-4B-Instruct": qwen3_vl("", LARGE, llm(2560, 9728, 36, 32, 8, 151936, tied=True)).config,
    "Qwen/Qwen3-VL-32B-Instruct": qwen3_vl("", SO400M, llm(5120, 25600, 64, 64, 8, 151936, tied=False)).config,
    "Qwen/Qwen3-VL-30B-A3B-Instruct": qwen3_vl_moe(768, llm(2048, 6144, 48, 32, 4, 151936, tied=False)),
    "Qwen/Qwen3-VL-235B-A22B-Instruct": qwen3_vl_moe(1536, llm(4096, 12288, 94, 64, 4, 151936, tied=False)),
    "Qwen/Qwen2-VL-2B-Instruct": qwen2_vl(llm(1536, 8960, 28, 12, 2, 151936, tied=True)),
    "Qwen/Qwen2-VL-7B-Instruct": qwen2_vl(_QWEN_7B),
    "llava-hf/llava-onevision-qwen2-7b-ov-hf": llava_onevision("", _QWEN_7B | {"vocab_size": 152128}).config,
    "OpenGVLab/InternVL3-1B-hf": internvl("", llm(896, 4864, 24, 14, 2, 151674, tied=False)).config,
    "llava-hf/LLaVA-NeXT-Video-7B-hf": _LLAVA_NEXT_VIDEO_7B,
    "llava-hf/LLaVA-NeXT-Video-7B-DPO-hf": _LLAVA_NEXT_VIDEO_7B,
    "HuggingFaceTB/SmolVLM2-500M-Video-Instruct": _smolvlm_500m(),
    "lmms-lab/LLaVA-Video-72B-Qwen2": llava_video("", llm(8192, 29568, 80, 64, 8, 152064, tied=False)).config,
}
#: Checkpoints that `stsimdiff models` names and that have no row, because their configuration is not known here.
LEFT_OUT = {"Efficient-Large-Model/NVILA-Lite-8B", "Efficient-Large-Model/NVILA-Lite-2B"}


def checkpoints() -> list[str]:
    """The checkpoints that `stsimdiff models` names and whose configuration is known here, in its order."""
    named = [name for entry in FAMILIES.entries.values() for name in entry.source.split(", ")]
    return [name for name in named if name in CONFIGS]


def counts(config: dict[str, Any]) -> dict[str, int]:
    """Parameters of the whole model, and of what the steps load of it."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config | {DUMMY: True}))
        family = open_family(folder)
        models = {
            "whole": _whole(family),
            "encode": load_vision(family, ResolvedRuntime(META, BF16, "sdpa")),
            "importance": load_language(family, ResolvedRuntime(META, BF16, "sdpa"), layers=2),
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
        found = counts(CONFIGS[name])
        sizes = [f"{2 * count / 1e9:.2f} GB" for count in found.values()]
        lines.append(" | ".join([name, f"{found['whole']:,}", *sizes]))
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
