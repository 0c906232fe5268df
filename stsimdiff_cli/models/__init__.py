"""The table of model families. A family is one file in `families/` and one entry below.

A family may also live in another package, which offers it in the entry-point group `stsimdiff.families` under the
`model_type` of its checkpoints:

    [project.entry-points."stsimdiff.families"]
    my_vl = "my_package.my_vl:MyVL"        # a subclass of stsimdiff_cli.models.families.base.Family

If other checkpoints have the same `model_type`, the class lists in `architectures` the classes that the config.json of
its own ones names. `summary` (or the first line of the docstring) and `checkpoints` appear in `stsimdiff models`.
"""

from __future__ import annotations

from typing import Any

from ..errors import RequestError
from ..registry import Entry, Plugins, Table, summary_of

#: The embedded model.
EMBEDDED = "tiny"
#: Embedded models of earlier releases, and what to use instead.
FORMER = {"tiny-choice": "Give tiny, which answers multiple choice too since 0.2."}


def _describe(cls: Any) -> Entry:
    """The entry of a family that another package offers."""
    return Entry(f"{cls.__module__}:{cls.__qualname__}", summary_of(cls), checkpoints=getattr(cls, "checkpoints", ()))


#: Families by the `model_type` of their config.json, unless they are in ARCHITECTURES.
FAMILIES = Table(
    "model family",
    {
        "qwen2_5_vl": Entry(
            "stsimdiff_cli.models.families.qwen2_5_vl:Qwen25VL",
            "Qwen2.5-VL: native resolution, two frames a slot, three-part positions",
            checkpoints=(
                "Qwen/Qwen2.5-VL-3B-Instruct",
                "Qwen/Qwen2.5-VL-7B-Instruct",
            ),
        ),
        "qwen2_vl": Entry(
            "stsimdiff_cli.models.families.qwen2_vl:Qwen2VL",
            "Qwen2-VL: native resolution, two frames a slot, three-part positions without seconds",
            checkpoints=(
                "Qwen/Qwen2-VL-2B-Instruct",
                "Qwen/Qwen2-VL-7B-Instruct",
            ),
        ),
        "qwen2_5_omni": Entry(
            "stsimdiff_cli.models.families.qwen2_5_omni:Qwen25Omni",
            "Qwen2.5-Omni without sound: frames of Qwen2.5-VL, 25 time positions a second",
            checkpoints=(
                "Qwen/Qwen2.5-Omni-3B",
                "Qwen/Qwen2.5-Omni-7B",
            ),
        ),
        "qwen3_omni_moe": Entry(
            "stsimdiff_cli.models.families.qwen3_omni_moe:Qwen3OmniMoe",
            "Qwen3-Omni without sound: the encoder of Qwen3-VL, time in fractions of a position, a mixture of experts",
            checkpoints=("Qwen/Qwen3-Omni-30B-A3B-Instruct", "Qwen/Qwen3-Omni-30B-A3B-Thinking"),
        ),
        "qwen3_vl": Entry(
            "stsimdiff_cli.models.families.qwen3_vl:Qwen3VL",
            "Qwen3-VL: native resolution, two frames a slot, its time in words before each, deepstack features",
            checkpoints=(
                "Qwen/Qwen3-VL-2B-Instruct",
                "Qwen/Qwen3-VL-4B-Instruct",
                "Qwen/Qwen3-VL-8B-Instruct",
                "Qwen/Qwen3-VL-32B-Instruct",
            ),
        ),
        "qwen3_vl_moe": Entry(
            "stsimdiff_cli.models.families.qwen3_vl_moe:Qwen3VLMoe",
            "Qwen3-VL with a mixture of experts",
            checkpoints=(
                "Qwen/Qwen3-VL-30B-A3B-Instruct",
                "Qwen/Qwen3-VL-235B-A22B-Instruct",
            ),
        ),
        "qwen3_5": Entry(
            "stsimdiff_cli.models.families.qwen3_5:Qwen35",
            "Qwen3.5: frames and prompts of Qwen3-VL, an LLM with linear attention in most layers",
            checkpoints=(
                "Qwen/Qwen3.5-4B",
                "Qwen/Qwen3.5-9B",
                "Qwen/Qwen3.5-27B",
            ),
        ),
        "qwen3_5_moe": Entry(
            "stsimdiff_cli.models.families.qwen3_5_moe:Qwen35Moe",
            "Qwen3.5 with a mixture of experts",
            checkpoints=("Qwen/Qwen3.5-35B-A3B",),
        ),
        "glm4v": Entry(
            "stsimdiff_cli.models.families.glm4v:Glm4v",
            "GLM-4.1V, GLM-4.6V-Flash: native resolution, two frames a slot, its time in words after each",
            checkpoints=(
                "zai-org/GLM-4.1V-9B-Thinking",
                "zai-org/GLM-4.6V-Flash",
            ),
        ),
        "glm46v": Entry(
            "stsimdiff_cli.models.families.glm46v:Glm46V",
            "GLM-4.6V in transformers' own class for it",
        ),
        "glm4v_moe": Entry(
            "stsimdiff_cli.models.families.glm4v_moe:Glm4vMoe",
            "GLM-4.5V, GLM-4.6V: GLM-4.1V with a mixture of experts",
            checkpoints=(
                "zai-org/GLM-4.5V",
                "zai-org/GLM-4.6V",
            ),
        ),
        "video_llama_3": Entry(
            "stsimdiff_cli.models.families.video_llama_3:VideoLlama3",
            "VideoLLaMA 3: native resolution, one frame a slot, its time in words before each",
            checkpoints=("lkhl/VideoLLaMA3-2B-Image-HF", "lkhl/VideoLLaMA3-7B-Image-HF"),
        ),
        "molmo2": Entry(
            "stsimdiff_cli.models.families.molmo2:Molmo2",
            "Molmo 2: SigLIP at 378 pixels, 9 x 9 tokens a frame, which see each other; its time in words before each",
            checkpoints=("allenai/Molmo2-4B", "allenai/Molmo2-8B", "allenai/Molmo2-O-7B"),
        ),
        "llava_onevision": Entry(
            "stsimdiff_cli.models.families.llava_onevision:LlavaOnevision",
            "LLaVA-OneVision: SigLIP at 384 pixels, 14 x 14 tokens a frame, one closing newline",
            checkpoints=(
                "llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
                "llava-hf/llava-onevision-qwen2-7b-ov-hf",
            ),
        ),
        "internvl": Entry(
            "stsimdiff_cli.models.families.internvl:InternVL",
            "InternVL: InternViT at 448 pixels, 16 x 16 tokens a frame, each frame's number in words before it",
            checkpoints=(
                "OpenGVLab/InternVL3-1B-hf",
                "OpenGVLab/InternVL3-8B-hf",
                "OpenGVLab/InternVL3_5-1B-HF",
                "OpenGVLab/InternVL3_5-2B-HF",
                "OpenGVLab/InternVL3_5-4B-HF",
                "OpenGVLab/InternVL3_5-8B-HF",
                "OpenGVLab/InternVL3_5-14B-HF",
            ),
        ),
        "llava_next_video": Entry(
            "stsimdiff_cli.models.families.llava_next_video:LlavaNextVideo",
            "LLaVA-NeXT-Video: CLIP at 336 pixels, the middle square of a frame, 12 x 12 tokens",
            checkpoints=(
                "llava-hf/LLaVA-NeXT-Video-7B-hf",
                "llava-hf/LLaVA-NeXT-Video-7B-DPO-hf",
            ),
        ),
        "smolvlm": Entry(
            "stsimdiff_cli.models.families.smolvlm:SmolVLM",
            "SmolVLM2: SigLIP at 384 or 512 pixels, 9 x 9 or 8 x 8 tokens a frame, its time in words before each",
            checkpoints=(
                "HuggingFaceTB/SmolVLM2-256M-Video-Instruct",
                "HuggingFaceTB/SmolVLM2-500M-Video-Instruct",
                "HuggingFaceTB/SmolVLM2-2.2B-Instruct",
            ),
        ),
        "llava_video": Entry(
            "stsimdiff_cli.models.families.llava_video:LlavaVideo",
            "LLaVA-Video: SigLIP at 384 pixels, 14 x 15 tokens a frame, the last column newlines; frame times in words",
            checkpoints=(
                "lmms-lab/LLaVA-Video-7B-Qwen2",
                "lmms-lab/LLaVA-Video-72B-Qwen2",
            ),
        ),
        "nvila": Entry(
            "stsimdiff_cli.models.families.nvila:Nvila",
            "NVILA: SigLIP at 448 pixels, 16 x 16 or 11 x 11 tokens a slot of 1 or 8 frames, a newline after each",
            checkpoints=(
                "Efficient-Large-Model/NVILA-8B-Video",
                "Efficient-Large-Model/NVILA-Lite-2B",
                "Efficient-Large-Model/NVILA-Lite-8B",
            ),
        ),
        "minicpmv4_6": Entry(
            "stsimdiff_cli.models.families.minicpmv4_6:MiniCPMV46",
            "MiniCPM-V 4.6: SigLIP at about 448 x 448 pixels in a frame's own shape, about 64 tokens, Qwen3.5's LLM",
            checkpoints=(
                "openbmb/MiniCPM-V-4.6",
                "openbmb/MiniCPM-V-4.6-Thinking",
            ),
        ),
        "gemma4": Entry(
            "stsimdiff_cli.models.families.gemma4:Gemma4",
            "Gemma 4 without sound: at most 70 tokens a frame in its own shape, its time in words before each",
            checkpoints=(
                "google/gemma-4-E2B-it",
                "google/gemma-4-E4B-it",
                "google/gemma-4-26B-A4B-it",
                "google/gemma-4-31B-it",
            ),
        ),
    },
    Plugins("stsimdiff.families", "stsimdiff_cli.models.families.base:Family", _describe),
)

#: Families by the class that their config.json names, where other checkpoints have the same `model_type`.
ARCHITECTURES = {"LlavaQwenForCausalLM": "llava_video", "LlavaLlamaModel": "nvila"}

#: Types of checkpoints that run only with their own code, and the twin that runs here.
_TWINS = {
    "internvl_chat": "Its twin in transformers' format runs here: the same name with -hf, e.g. "
    "OpenGVLab/InternVL3-8B-hf, or with -HF, e.g. OpenGVLab/InternVL3_5-8B-HF.",
    "videollama3_qwen2": "Checkpoints in transformers' format run here, e.g. lkhl/VideoLLaMA3-7B-Image-HF.",
    "nvila": "Its twin in the authors' format runs here: the same name without -hf-preview.",
}

#: Types of checkpoints that transformers can run and this package cannot, and why.
_REASONS = {
    "gemma4_unified": "It has no vision encoder: patches enter the LLM as they are, so there is neither attention "
    "between them to read nor a feature that says what they show.",
    "perception_lm": "Its vision encoder is one of the package timm, where attention cannot be read.",
}


def family_of(config: dict[str, Any], model: str) -> str:
    """The family that serves a config.json; RequestError that lists the known ones otherwise.

    Built-in families go first, so that no other package is imported for their checkpoints. Of those of other packages,
    one that lists `architectures` serves these alone; the others serve their `model_type`.
    """
    made_for, model_type = config.get("architectures") or [], str(config.get("model_type"))
    made_for = [made_for] if isinstance(made_for, str) else made_for
    for name in made_for:
        if name in ARCHITECTURES:
            return ARCHITECTURES[name]
    if model_type in FAMILIES.builtin and model_type not in ARCHITECTURES.values():
        return model_type
    installed = {name: tuple(getattr(cls, "architectures", ())) for name, (cls, _) in FAMILIES.installed.items()}
    for name, architectures in installed.items():
        if set(made_for) & set(architectures):
            return name
    if model_type not in FAMILIES.builtin and model_type in FAMILIES and not installed.get(model_type):
        return model_type
    twin, reason = _TWINS.get(model_type), _REASONS.get(model_type)
    refusal = f"The model {model} is of type {' '.join([repr(model_type), *made_for])}, which is not supported."
    raise RequestError(
        f"{refusal} {reason}" if reason else refusal,
        twin or f"Supported types: {', '.join(FAMILIES)}. See `stsimdiff models`.",
    )
