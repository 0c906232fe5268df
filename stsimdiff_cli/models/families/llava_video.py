"""LLaVA-Video (Zhang et al., 2024) as its authors publish it: LLaVA-Video-7B-Qwen2 and -72B-Qwen2.

The model is described by its config.json and the authors' repository, LLaVA-VL/LLaVA-NeXT. Its parts are those of
LLaVA-OneVision - SigLIP, two linear layers, a learned newline, Qwen2 - so transformers' classes for that family hold
them; weights are read from the published shards under their published names (`key_mapping`).
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import LlavaOnevisionConfig, PretrainedConfig, Qwen2Config, RepetitionPenaltyLogitsProcessor

from ...errors import RequestError
from ...records import Coverage, TokenGrid
from ..loading.checkpoint import Checkpoint
from .llava import Llava, tower_of
from .preprocess import square

#: google/siglip-so400m-patch14-384, all its layers: the published config.json names this tower and says no more.
_SO400M = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}
#: Entries that are the same in all published checkpoints; no other values are supported.
_REQUIRED = {
    "mm_projector_type": ("mlp2x_gelu",),
    "mm_spatial_pool_mode": ("bilinear", "average"),
    "mm_newline_position": ("grid",),
    "add_faster_video": (False,),
}
#: The authors' defaults for entries that a config.json may lack (their training and inference scripts).
_DEFAULTS = {
    "mm_spatial_pool_mode": "bilinear",
    "mm_spatial_pool_stride": 2,
    "mm_newline_position": "one_token",
    "add_faster_video": False,
    "add_time_instruction": False,
}


class LlavaVideo(Llava):
    """One frame a slot, SigLIP patches pooled 2 x 2, and a learned newline as the last column of every frame.

    The newline column is on the grid: its tokens are tokens like any other and count in N (14 x 15 a frame, or 13 x 14
    where the checkpoint pools by averages).
    """

    name: ClassVar[str] = "llava_video"
    #: The authors' evaluation overrides the first; lmms-eval's class writes no sentence on times.
    options: ClassVar[dict[str, tuple[str, ...]]] = {"pool": ("average", "bilinear"), "times": ("off", "on")}
    key_mapping: ClassVar[dict[str, str]] = {
        r"^model\.(embed_tokens|layers|norm)\.": r"model.language_model.\1.",
        r"^model\.vision_tower\.vision_tower\.": "model.vision_tower.",
        r"^model\.mm_projector\.0\.": "model.multi_modal_projector.linear_1.",
        r"^model\.mm_projector\.2\.": "model.multi_modal_projector.linear_2.",
    }

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        hint = (
            "Of the checkpoints in this format, LLaVA-Video-7B-Qwen2 and LLaVA-Video-72B-Qwen2 are supported; of "
            "LLaVA-OneVision those in transformers' format, e.g. llava-hf/llava-onevision-qwen2-7b-ov-hf."
        )
        tower = str(checkpoint.config.get("mm_vision_tower"))
        if "siglip" not in tower.lower():
            raise RequestError(f"The model {checkpoint.id} has the vision tower {tower}, which is not SigLIP.", hint)
        for entry, allowed in _REQUIRED.items():
            if self._entry(entry) not in allowed:
                value = f"{entry} = {self._entry(entry)!r}"
                raise RequestError(f"The model {checkpoint.id} has {value}, which is not supported.", hint)

    def _entry(self, name: str) -> Any:
        """What a user sets, an entry of config.json, or the authors' default for it."""
        options = self.checkpoint.options
        if name == "mm_spatial_pool_mode" and "pool" in options:
            return options["pool"]
        if name == "add_time_instruction" and "times" in options:
            return options["times"] == "on"
        stored = self.checkpoint.config.get(name)
        return _DEFAULTS.get(name) if stored is None else stored

    @cached_property
    def config(self) -> PretrainedConfig:
        """The text part is at the top level of config.json; SigLIP is without its last layer and head, as in training.

        A `vision_config` counts only if it is SigLIP's: files that went through transformers' class for `llava` carry
        CLIP's, which is not this model's.
        """
        stored = self.checkpoint.config
        vision = stored.get("vision_config") or {}
        if vision.get("model_type") != "siglip_vision_model":
            vision = {}
        vision = {"model_type": "siglip_vision_model", **_SO400M, **vision, "vision_use_head": False}
        vision["num_hidden_layers"] -= 1
        known = Qwen2Config().to_dict().keys() | {"rope_theta"}
        text = {key: stored[key] for key in known - _NOT_OF_THE_TEXT if key in stored}
        placeholder = stored.get("image_token_index", text["vocab_size"] - 1)  # neither id is one of Qwen2's words
        return LlavaOnevisionConfig(
            vision_config=vision,
            text_config={"model_type": "qwen2", **text},
            image_token_index=placeholder,
            video_token_index=placeholder,
            tie_word_embeddings=stored.get("tie_word_embeddings", False),
        )

    # --- vision ---

    @cached_property
    def _settings(self) -> dict[str, Any]:
        """SigLIP's preprocessing, as in the authors' code; the checkpoint has no file for it."""
        side = self.config.vision_config.image_size
        return {"size": {"height": side, "width": side}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}

    def encode(self, model: Any, pixels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Output of the last remaining layer (no norm after it), projected and pooled, then the newline column."""
        tower = tower_of(model)
        patches = tower.embeddings(pixels["pixel_values_videos"][0])  # (n, patches, width of SigLIP)
        encoded = tower.encoder(inputs_embeds=patches).last_hidden_state
        pooled = self._pool(model.model.multi_modal_projector(encoded))  # (n, H, W - 1, D)
        newline = model.model.image_newline.to(pooled.dtype)
        return {"features": torch.cat([pooled, newline.expand(*pooled.shape[:2], 1, -1)], dim=2)}

    def to_grid(self, model: Any, patches: Tensor, pixels: dict[str, Tensor]) -> Tensor:  # noqa: ARG002
        """Pooled like the features; a newline, which the encoder never sees, gets the mean of its row."""
        frames = pixels["pixel_values_videos"].shape[1]
        pooled = self._pool(patches.view(frames, -1, patches.shape[-1]))  # (n, H, W - 1, C)
        return torch.cat([pooled, pooled.mean(2, keepdim=True)], dim=2)

    def coverage_of(self, width: int, height: int) -> Coverage:  # noqa: ARG002
        """All pooled patches, and the newline column at the right, which shows no pixels."""
        vision = self.config.vision_config
        patches = vision.image_size // vision.patch_size
        if self._entry("mm_spatial_pool_mode") == "average":  # an odd last patch is left out
            patches -= patches % self._entry("mm_spatial_pool_stride")
        part = patches * vision.patch_size / vision.image_size
        return Coverage(right=part, bottom=part, blank_columns=1)

    def _pool(self, patches: Tensor) -> Tensor:
        """(n, patches, C) to (n, H, H, C): 27 x 27 become 14 x 14 by interpolation, or 13 x 13 by averages of 2 x 2."""
        stride = self._entry("mm_spatial_pool_stride")
        x = square(patches).permute(0, 3, 1, 2)  # (n, C, side, side)
        if self._entry("mm_spatial_pool_mode") == "average":
            x = F.avg_pool2d(x, stride)
        else:
            x = F.interpolate(x, size=(math.ceil(x.shape[-1] / stride),) * 2, mode="bilinear")
        return x.permute(0, 2, 3, 1)

    # --- language ---

    def prompt_text(self, grid: TokenGrid, question: str) -> tuple[str, str]:
        """The authors' conversation template `qwen_1_5`, and their sentence on times if the checkpoint asks for it.

        The sentence is theirs to the letter, including the missing space; times are those of the frames shown.
        """
        before = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        if self._entry("add_time_instruction"):
            times = ",".join(f"{seconds:.2f}s" for seconds in grid.seconds)
            question = (
                f"The video lasts for {grid.source.seconds:.2f} seconds, and {len(grid.seconds)} frames are uniformly "
                f"sampled from it. These frames are located at {times}."
                f"Please answer the following questions related to this video.\n{question}"
            )
        return before, f"\n{question}<|im_end|>\n<|im_start|>assistant\n"

    def generate_kwargs(self, model: Any, prompt_length: int) -> dict[str, Any]:
        """A repetition penalty counts the answer only: the authors' generator never sees the prompt's ids."""
        penalty = model.generation_config.repetition_penalty
        if penalty in (None, 1.0):
            return {}
        processor = RepetitionPenaltyLogitsProcessor(penalty, prompt_ignore_length=prompt_length)
        return {"repetition_penalty": 1.0, "logits_processor": [processor]}


#: Entries at the top level that do not describe the text model, although its configuration has entries of that name;
#: `rope_scaling` is one of them because the authors' class sets it to None, whatever the file says.
_NOT_OF_THE_TEXT = {"architectures", "model_type", "_name_or_path", "transformers_version", "rope_scaling"}
