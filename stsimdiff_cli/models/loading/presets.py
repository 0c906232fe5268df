"""The table of presets: published sizes for `stsimdiff profile --dummy-weights`. A preset is one entry below."""

from __future__ import annotations

from ...registry import unknown_name
from .published import Preset, encoder, internvl, llava_onevision, llava_video, llm, nvila, smolvlm
from .published_qwen import SO400M, qwen2_5_vl, qwen3_vl

_QWEN_7B = llm(3584, 18944, 28, 28, 4, 152064, tied=False)

PRESETS = {
    "llava-video-7b": llava_video("lmms-lab/LLaVA-Video-7B-Qwen2", _QWEN_7B),
    "nvila-8b-video": nvila(
        "Efficient-Large-Model/NVILA-8B-Video", "mlp_downsample_2x2_fix", [8, 1, 1], _QWEN_7B | {"vocab_size": 151648}
    ),
    "llava-onevision-0.5b": llava_onevision(
        "llava-hf/llava-onevision-qwen2-0.5b-ov-hf", llm(896, 4864, 24, 14, 2, 152000, tied=True)
    ),
    "qwen2.5-vl-7b": qwen2_5_vl("Qwen/Qwen2.5-VL-7B-Instruct", _QWEN_7B),
    "qwen2.5-vl-3b": qwen2_5_vl("Qwen/Qwen2.5-VL-3B-Instruct", llm(2048, 11008, 36, 16, 2, 151936, tied=True)),
    "qwen3-vl-8b": qwen3_vl("Qwen/Qwen3-VL-8B-Instruct", SO400M, llm(4096, 12288, 36, 32, 8, 151936, tied=False)),
    "internvl3-8b": internvl("OpenGVLab/InternVL3-8B-hf", _QWEN_7B | {"vocab_size": 151674}),
    "smolvlm2-2.2b": smolvlm(
        "HuggingFaceTB/SmolVLM2-2.2B-Instruct",
        theta=130000.0,
        scale=3,
        vision=encoder(1152, 4304, 27, 16, image=384, patch=14),
        text=llm(2048, 8192, 24, 32, 32, 49280, tied=False),
    ),
    "smolvlm2-256m": smolvlm(
        "HuggingFaceTB/SmolVLM2-256M-Video-Instruct",
        theta=100000.0,
        scale=4,
        vision=encoder(768, 3072, 12, 12, image=512, patch=16),
        text=llm(576, 1536, 30, 9, 3, 49280, tied=False),
    ),
}


def find_preset(name: str) -> Preset:
    """The preset of that name; RequestError with the nearest name if there is none."""
    if name not in PRESETS:
        raise unknown_name("preset", name, list(PRESETS))
    return PRESETS[name]
