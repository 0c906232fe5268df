"""NVILA (Liu et al., 2024) as its authors publish it: NVILA-8B-Video, NVILA-Lite-2B, NVILA-Lite-8B.

The LLM, the vision tower and the projector are in three folders, each with its configuration. The model is described
by those, by config.json and by the authors' repository, NVlabs/VILA. Weights are read under their published names.
"""

from __future__ import annotations

import json
import math
import re
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PretrainedConfig, Qwen2Config, SiglipVisionConfig

from ...errors import ModelError, RequestError
from ...records import Coverage, Layout, TokenGrid
from ..loading.checkpoint import Checkpoint
from ..loading.damage import reason
from ..loading.tokenizer import read_tokenizer
from .llava import Llava
from .nvila_model import PROJECTORS, NvilaConfig
from .preprocess import HALF, checked, square

#: How a video is spelled in a prompt; the authors' code adds it to tokenizers that do not have it.
_VIDEO = "<vila/video>"
#: A time token in an answer, as the authors' training script formats it.
_TIME = re.compile(r"<t(\d{1,9})>")
#: Video encoders by the last part of their `_target_`.
_ENCODERS = ("BasicVideoEncoder", "TSPVideoEncoder")
#: Entries of config.json that change what is computed: their value if they are missing, and the supported values.
_REQUIRED: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "mm_vision_select_feature": ("patch", ("cls_patch",)),
    "image_aspect_ratio": (None, (None, "resize", "dynamic", "dynamic_s2")),
    "video_max_tiles": (1, (1,)),
    "s2": (False, (False,)),
    "ps3": (False, (False,)),
    "chat_template": (None, (None, "qwen2")),
}
_HINT = "Of the checkpoints in this format, NVILA-8B-Video, NVILA-Lite-2B and NVILA-Lite-8B are supported."


class Nvila(Llava):
    """SigLIP patches, 2 x 2 or 3 x 3 to a token; the video encoder may average the tokens of a slot's frames.

    The newline after every slot is not on the grid: it belongs to the prompt and does not count in N. The authors' code
    takes whole slots only; here an incomplete last slot is the average of its frames. Videos go through the video
    encoder that config.json names; later versions of the authors' code read them as images, with the same result if
    the video encoder averages nothing.
    """

    name: ClassVar[str] = "nvila"
    key_mapping: ClassVar[dict[str, str]] = {
        r"^llm\.model\.": "model.language_model.",
        r"^llm\.lm_head\.": "lm_head.",
        r"^vision_tower\.": "model.vision_tower.",
        r"^mm_projector\.layers\.": "model.multi_modal_projector.steps.",
    }

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self._require("LLM", checkpoint.part_config("llm").get("model_type"), ("qwen2",))
        tower = checkpoint.part_config("vision_tower").get("model_type")
        self._require("vision tower", tower, ("siglip_vision_model",))
        self._require("projector", self._projector, tuple(PROJECTORS))
        self._require("video encoder", self._encoder_name, _ENCODERS)
        for entry, (default, allowed) in _REQUIRED.items():
            stored = checkpoint.config.get(entry)
            self._require(entry, default if stored is None else stored, allowed)
        sizes = self._pool_sizes
        if len(sizes) != 1:
            raise RequestError(
                f"The model {checkpoint.id} pools a video in {len(sizes)} ways; one is supported.", _HINT
            )
        if any(self._side % size for size in sizes[0][1:]):
            tokens = f"{self._side} x {self._side} tokens, which pool_sizes {sizes[0]} does not divide"
            raise RequestError(f"The frames of the model {checkpoint.id} have {tokens}.", _HINT)

    def _require(self, what: str, value: Any, allowed: tuple[Any, ...]) -> None:
        """RequestError unless the value is one of those allowed."""
        if value not in allowed:
            known = ", ".join(str(value) for value in allowed if value is not None)
            name = self.checkpoint.id
            raise RequestError(
                f"The model {name} has the {what} {value!r}, which is not supported (supported: {known}).", _HINT
            )

    @property
    def _projector(self) -> str:
        """A key of PROJECTORS."""
        return str(self.checkpoint.part_config("mm_projector").get("mm_projector_type"))

    @cached_property
    def _encoder(self) -> dict[str, Any]:
        """The video encoder's entry of config.json, which may be written as JSON in a string."""
        stored = self.checkpoint.config.get("video_encoder") or {"_target_": _ENCODERS[0]}
        try:
            return {"end_tokens": "\n", **(json.loads(stored) if isinstance(stored, str) else stored)}
        except ValueError as error:
            raise ModelError(
                f"The video_encoder of {self.checkpoint.id} is not valid JSON.", "Download it again."
            ) from error

    @property
    def _encoder_name(self) -> str:
        """One of _ENCODERS, if it is supported."""
        return str(self._encoder.get("_target_")).rpartition(".")[2]

    @property
    def _pool_sizes(self) -> list[tuple[int, int, int]]:
        """Frames, rows and columns that the video encoder averages, for each grid that it makes."""
        return [(1, 1, 1)] if self._encoder_name == _ENCODERS[0] else self._encoder.get("pool_sizes", [])

    @property
    def _side(self) -> int:
        """Tokens along a side of a frame, before the video encoder."""
        vision = self.config.vision_config
        return math.ceil(vision.image_size // vision.patch_size / PROJECTORS[self._projector][0])

    @cached_property
    def config(self) -> PretrainedConfig:
        """The configuration in transformers' terms; the tower ends with the selected layer.

        A model that reads images at several scales sees a video at the first one only, repeated for each scale.
        """
        stored = self.checkpoint.config
        vision = SiglipVisionConfig(**{**self.checkpoint.part_config("vision_tower"), "vision_use_head": False})
        layer = stored.get("mm_vision_select_layer")
        layer = -2 if layer is None else layer  # hidden_states[0] is the input of layer 0
        vision.num_hidden_layers = layer if layer >= 0 else vision.num_hidden_layers + 1 + layer
        text = Qwen2Config(**self.checkpoint.part_config("llm"))
        scales = str(stored["s2_scales"]).strip("[]").split(",") if stored.get("dynamic_s2") else [1]
        return NvilaConfig(
            vision_config=vision,
            text_config=text,
            vision_feature_layer=-1,
            projector_type=self._projector,
            scales=len(scales),
            tie_word_embeddings=text.tie_word_embeddings,
        )

    # --- vision ---

    @cached_property
    def _settings(self) -> dict[str, Any]:
        """SigLIP's preprocessing; with `resize`, the authors resize frames before it, with PIL's default filter."""
        settings = self.checkpoint.json("vision_tower/preprocessor_config.json")
        if not settings:
            raise ModelError(
                f"The checkpoint {self.checkpoint.id} has no vision_tower/preprocessor_config.json.",
                "Download it completely.",
            )
        side = self.config.vision_config.image_size
        bicubic = {"resample": 3} if self.checkpoint.config.get("image_aspect_ratio") == "resize" else {}
        return checked({**settings, **bicubic, "size": {"height": side, "width": side}}, self.checkpoint, HALF)

    @property
    def frames_per_slot(self) -> int:
        """Frames that the video encoder averages."""
        return self._pool_sizes[0][0]

    @property
    def spread(self) -> str:
        """The authors' `_load_video` rounds."""
        return "rounded"

    def slot_period(self, period: float) -> float:
        """Frames of a slot times what each stands for; an answer's time tokens need the length of what was shown."""
        return period * self.frames_per_slot

    def encode(self, model: Any, pixels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Projected tokens, averaged as the video encoder does it."""
        return {"features": self._pool(model.frame_tokens(pixels["pixel_values_videos"][0].to(model.dtype)))}

    def to_grid(self, model: Any, patches: Tensor, pixels: dict[str, Tensor]) -> Tensor:  # noqa: ARG002
        """Mean over the patches of each token (padding has no weight), then averaged as the video encoder does it."""
        frames = pixels["pixel_values_videos"].shape[1]
        x = square(patches.view(frames, -1, patches.shape[-1])).permute(0, 3, 1, 2)  # (n, C, P, P)
        return self._pool(F.avg_pool2d(x, PROJECTORS[self._projector][0], ceil_mode=True).permute(0, 2, 3, 1))

    def coverage_of(self, width: int, height: int) -> Coverage:  # noqa: ARG002
        """All patches; where 3 x 3 of them make a token, the last tokens extend past the frame."""
        vision = self.config.vision_config
        part = self._side * PROJECTORS[self._projector][0] * vision.patch_size / vision.image_size
        return Coverage(right=part, bottom=part)

    def _pool(self, tokens: Tensor) -> Tensor:
        """(n, h, w, C) averaged to (t, H, W, C); an incomplete last slot is the average of its frames."""
        time, rows, columns = self._pool_sizes[0]
        x = tokens.unflatten(2, (-1, columns)).unflatten(1, (-1, rows)).mean((2, 4))
        return torch.stack([slot.mean(0) for slot in x.split(time)])

    def layout_of(self, shape: tuple[int, int, int]) -> Layout:
        """What the video encoder writes before and after every slot (a newline after), and after the video."""
        start, end, last = (self._ids(self._encoder.get(f"{name}_tokens")) for name in ("start", "end", "sep"))
        step = shape[1] * shape[2]
        between = tuple((step * slot, end + start) for slot in range(1, shape[0])) if end + start else ()
        return Layout(before=start, between=between, after=end + last)

    def _ids(self, text: str | None) -> tuple[int, ...]:
        return tuple(self.tokenizer(text)["input_ids"]) if text else ()

    # --- language ---

    @cached_property
    def tokenizer(self) -> Any:
        """The LLM's, with the token for a video added if necessary."""
        tokenizer = read_tokenizer(self.checkpoint, self.config)
        tokenizer.add_tokens([_VIDEO], special_tokens=True)
        return tokenizer

    @cached_property
    def placeholder(self) -> int:
        """The token for a video; it may have no row in the input embeddings."""
        return int(self.tokenizer.convert_tokens_to_ids(_VIDEO))

    def prompt_text(self, grid: TokenGrid, question: str) -> tuple[str, str]:  # noqa: ARG002
        """One turn of the chat template, in which the question follows the video immediately.

        The authors' template `qwen2` differs from the tokenizers' own in the system prompt, which has no full stop.
        ModelError without a usable template.
        """
        if self.checkpoint.config.get("chat_template"):
            before = "<|im_start|>system\nYou are a helpful assistant<|im_end|>\n<|im_start|>user\n"
            return before, f"{question.rstrip()}<|im_end|>\n<|im_start|>assistant\n"
        try:
            message = {"role": "user", "content": _VIDEO + question.rstrip()}
            text = self.tokenizer.apply_chat_template([message], add_generation_prompt=True, tokenize=False)
        except Exception as error:  # a template may fail in any way
            raise ModelError(
                f"{self.checkpoint.id} has no usable chat template: {reason(error)}.",
                "Download the files of its tokenizer again.",
            ) from error
        before, _, after = str(text).partition(_VIDEO)
        return before, after

    def answer_text(self, text: str, grid: TokenGrid) -> str:
        """Time tokens as seconds of the video, between the angle brackets in which the authors' code leaves them.

        NVILA-8B-Video has 100 of them: <t0> is the beginning of what was shown, <t99> and any above it the end.
        """
        count = self.checkpoint.config.get("num_time_tokens")
        if type(count) is not int or count < 2 or not self.checkpoint.config.get("time_token_format"):
            return text
        begin = grid.seconds[0]
        rest = (grid.source.seconds or grid.seconds[-1]) - begin
        length = rest if grid.period is None else min(grid.period * grid.shape[0], rest)
        return _TIME.sub(
            lambda match: f"<{round(begin + min(int(match[1]), count - 1) * length / (count - 1), 2)}>", text
        )

    def generate_kwargs(self, model: Any, prompt_length: int) -> dict[str, Any]:  # noqa: ARG002
        """The authors' tokens that end an answer; the LLM's own generation settings are not used otherwise."""
        known = self.tokenizer.get_vocab()
        ends = sorted({known[text] for text in (self.tokenizer.eos_token, "<|im_end|>") if text in known})
        return {"eos_token_id": ends, "pad_token_id": ends[0]}
