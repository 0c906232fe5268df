"""A family's checkpoint in two ways: through our encoder, and as the whole model with its own `generate`."""

from __future__ import annotations

from typing import Any

import torch
from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
from transformers.modeling_outputs import BaseModelOutputWithPooling

from stsimdiff_cli.models.families.base import Family
from stsimdiff_cli.models.inference.conversation import Conversation
from stsimdiff_cli.models.inference.language_model import LanguageModel
from stsimdiff_cli.models.inference.vision_encoder import VisionEncoder
from stsimdiff_cli.models.loading.weights import weights_of
from stsimdiff_cli.records import Embeddings, Prompt, Sizing, Source, TokenGrid, VideoTokens
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


def from_features(language: LanguageModel, prompt: Prompt, features: torch.Tensor, **more: Any) -> list[int]:
    """What `generate` answers to a prompt with the features (M, D) of its visual tokens, everything else made by it.

    For models that take the outputs of their encoder.
    """
    given: dict[str, Any] = {
        "attention_mask": torch.ones_like(prompt.ids)[None],
        "mm_encoder_outputs": {"video": BaseModelOutputWithPooling(pooler_output=(features,))},
    } | token_types(language.family, prompt.ids)
    return language.model.generate(input_ids=prompt.ids[None], **given | more)[0, len(prompt.ids) :].tolist()


@torch.inference_mode()
def last_logits(language: LanguageModel, prompt: Prompt, tokens: Embeddings) -> torch.Tensor:
    """The logits (V,) after a prompt with the M visual tokens."""
    hidden = language.model.get_decoder()(**language.decoder_inputs(prompt, tokens)).last_hidden_state[0, -1]
    logits: torch.Tensor = language.model.get_output_embeddings()(hidden)
    return logits


def with_holes(conversation: Conversation, question: str, **more: Any) -> list[int]:
    """What `generate` answers to the whole prompt if what a conversation dropped may not be seen.

    Where windows are counted in the tokens that are given, all must be given. The dropped ones are noise.
    """
    language, grid, index = conversation.language, conversation.grid, conversation.index
    full = language.prompter.prompt(language.model, grid, question, torch.arange(grid.tokens))
    features = torch.randn(grid.tokens, grid.width, generator=torch.Generator().manual_seed(3))
    features[index] = conversation.tokens.features
    seen = ((full.visual < 0) | torch.isin(full.visual, index)).long()[None]
    return from_features(
        language, full, features, attention_mask=seen, position_ids=language.position_ids(full), **more
    )


def token_types(family: Family, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """What transformers' processor says of the kinds of a prompt's tokens (L,), for the classes that ask for it."""
    if family.name == "molmo2":
        types = torch.isin(ids, torch.tensor(family.tokenizer.convert_tokens_to_ids(OF_IMAGES))).int()
    elif family.name in THREE_PARTS | {"gemma4"}:
        types = (ids == family.placeholder).int() * 2
    else:
        return {}
    return {"mm_token_type_ids": types[None]}


def from_pixels(model, family: Family, frames: torch.Tensor, prompt_ids: torch.Tensor, visual: torch.Tensor) -> list:
    """Greedy tokens of the model's own `generate`, from pixels, positions left to the model."""
    if family.name in REFERENCES:  # no class of transformers can
        seen = REFERENCES[family.name](family.checkpoint.path)
        features = seen.features(preprocess(family, frames)["pixel_values_videos"][0])
        return seen.greedy(features, prompt_ids, visual, torch.arange(len(prompt_ids)), 12)
    extra = {}
    if family.name in ("qwen2_5_omni", "qwen3_omni_moe"):
        extra["video_second_per_grid"] = torch.tensor([SPACING])
    else:
        extra |= token_types(family, prompt_ids)
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
