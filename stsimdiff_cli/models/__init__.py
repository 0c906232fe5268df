"""The table of model families. A family is one file here and one line below."""

from __future__ import annotations

from ..errors import RequestError
from ..registry import Entry, Table

#: The name of the embedded model.
EMBEDDED = "tiny"

#: Families by the `model_type` of their config.json.
FAMILIES = Table(
    "model family",
    {
        "qwen2_5_vl": Entry(
            "stsimdiff_cli.models.qwen2_5_vl:Qwen25VL",
            "Qwen2.5-VL: native resolution, two frames a slot, three-part positions",
            "Qwen/Qwen2.5-VL-3B-Instruct, Qwen/Qwen2.5-VL-7B-Instruct",
        ),
        "llava_onevision": Entry(
            "stsimdiff_cli.models.llava_onevision:LlavaOnevision",
            "LLaVA-OneVision: SigLIP at 384 pixels, 14 x 14 tokens a frame, one closing newline",
            "llava-hf/llava-onevision-qwen2-0.5b-ov-hf, llava-hf/llava-onevision-qwen2-7b-ov-hf",
        ),
    },
)


def family_of(model_type: str, model: str) -> str:
    """The family that serves a `model_type`; RequestError that lists the known ones otherwise."""
    if model_type in FAMILIES:
        return model_type
    raise RequestError(
        f"The model {model} is of type {model_type!r}, which is not supported.",
        f"Supported types: {', '.join(FAMILIES)}. See `stsimdiff models`.",
    )
