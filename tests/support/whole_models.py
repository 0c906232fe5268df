"""A family's checkpoint in two ways: through our encoder, and as the whole model with its own `generate`."""

from __future__ import annotations

import torch
from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

from stsimdiff_cli.models.families.base import Family
from stsimdiff_cli.models.inference.vision_encoder import VisionEncoder
from stsimdiff_cli.models.loading.weights import weights_of
from stsimdiff_cli.records import Sizing, Source, TokenGrid, VideoTokens
from tests.support.checkpoints.molmo2 import OF_IMAGES
from tests.support.references.llava_video import LlavaVideoReference
from tests.support.references.nvila import NvilaReference
from tests.support.runtimes import CPU, FP32

#: Families of native resolution.
NATIVE = {
    "qwen2_vl",
    "qwen2_5_vl",
    "qwen2_5_omni",
    "qwen3_omni_moe",
    "qwen3_vl",
    "qwen3_vl_moe",
    "qwen3_5",
    "qwen3_5_moe",
    "glm4v",
    "glm46v",
    "glm4v_moe",
    "video_llama_3",
}
#: Those whose LLM counts positions in three parts.
THREE_PARTS = NATIVE - {"video_llama_3"}
REFERENCES = {"llava_video": LlavaVideoReference, "nvila": NvilaReference}
SPACING = 2.0  # seconds between slots; whole, because transformers 5.17 cuts fractions


def preprocess(family: Family, frames: torch.Tensor) -> dict[str, torch.Tensor]:
    """The encoder's inputs for a whole video."""
    return family.preprocess(frames, Sizing(len(frames)), CPU)


def encode(family: Family, frames: torch.Tensor, chunk: int = 100, evidence: tuple[str, ...] = ()) -> dict:
    encoder = VisionEncoder(family, FP32, evidence=frozenset(evidence))
    parts = [encoder.encode(frames[i : i + chunk], Sizing(len(frames))) for i in range(0, len(frames), chunk)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def tokens_of(family: Family, frames: torch.Tensor, chunk: int = 100, evidence: tuple[str, ...] = ()) -> VideoTokens:
    out = encode(family, frames, chunk, evidence)
    return VideoTokens.of(grid_of(family, out["features"]), out)


def grid_of(family: Family, features: torch.Tensor) -> TokenGrid:
    t, h, w, d = features.shape
    source = Source("clip", 1, "", 1.0, 1.0, 1, 1, 1, "pyav")
    seconds = tuple(SPACING * i for i in range(t))
    return TokenGrid((t, h, w), d, seconds, family.layout_of((t, h, w)), family.checkpoint.ref, source)


def whole_model(family: Family, attention: str = "sdpa"):
    """All parts of the checkpoint, loaded in the ordinary way."""
    # Without these, transformers cannot load checkpoints in their authors' own formats.
    ours = {"config": family.config, "key_mapping": family.key_mapping} if family.key_mapping else {}
    return (
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(family.config)]
        .from_pretrained(**weights_of(family.checkpoint), dtype=torch.float32, attn_implementation=attention, **ours)
        .eval()
    )


def from_pixels(model, family: Family, frames: torch.Tensor, prompt_ids: torch.Tensor, visual: torch.Tensor) -> list:
    """Greedy tokens of the model's own `generate`, from pixels, positions left to the model."""
    if family.name in REFERENCES:  # no class of transformers can
        seen = REFERENCES[family.name](family.checkpoint.path)
        features = seen.features(preprocess(family, frames)["pixel_values_videos"][0])
        return seen.greedy(features, prompt_ids, visual, torch.arange(len(prompt_ids)), 12)
    extra = {}
    if family.name in ("qwen2_5_omni", "qwen3_omni_moe"):
        extra["video_second_per_grid"] = torch.tensor([SPACING])
    elif family.name in THREE_PARTS:
        extra["mm_token_type_ids"] = (prompt_ids == family.placeholder).int()[None] * 2
    elif family.name == "molmo2":
        of_images = torch.tensor(family.tokenizer.convert_tokens_to_ids(OF_IMAGES))
        extra["mm_token_type_ids"] = torch.isin(prompt_ids, of_images).int()[None]
    if family.name == "qwen2_5_vl":
        extra["second_per_grid_ts"] = torch.tensor([SPACING])
    out = model.generate(
        input_ids=prompt_ids[None],
        attention_mask=torch.ones_like(prompt_ids)[None],
        **preprocess(family, frames),
        **extra,
        max_new_tokens=12,
        do_sample=False,
    )
    return out[0, len(prompt_ids) :].tolist()
