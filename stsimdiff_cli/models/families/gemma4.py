"""Gemma 4 (Gemma team, 2026): about 70 tokens a frame, its time before them, windows in most layers of the LLM."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, ClassVar

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ModelError
from ...records import Sizing, TokenGrid
from ..loading.checkpoint import Checkpoint
from .base import THINKING, Family, thinking_kwargs
from .preprocess import UNCHANGED, normalise, resize, video_settings

#: Tokens of a frame at most, if the settings do not say it.
_TOKENS = 70
#: The oldest version of transformers whose classes for it are known to do what is needed here.
_OLDEST = (5, 23)
#: How the chat templates write a video.
_VIDEO = "<|video|>"


class Gemma4(Family):
    """One frame a slot; the mean of 3 x 3 patches is a token, and the frame's time stands before its tokens.

    Most layers of the LLM see a window of the last tokens. It is counted in original positions here, so a token that
    is dropped still takes its place. In these layers the larger models let the tokens of a frame see each other in
    both directions; those that are kept do so here. Each token of the small models has a further embedding for each
    layer, which for visual tokens is that of padding. Importance is read in a layer without a window.

    Sound is not read. The option `thinking` is the chat template's `enable_thinking`; left out, the template decides.
    """

    name: ClassVar[str] = "gemma4"
    options: ClassVar[dict[str, tuple[str, ...]]] = THINKING
    placeholder_per_slot: ClassVar[bool] = True

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        if self._text.use_bidirectional_attention not in (None, "vision"):
            raise ModelError(
                f"All tokens of {checkpoint.id} see each other. Prompts are read from left to right here.",
                "Use a checkpoint that writes answers, e.g. google/gemma-4-E4B-it.",
            )

    @classmethod
    def can_run(cls) -> bool:
        """Videos entered the model otherwise before."""
        return tuple(map(int, transformers.__version__.split(".")[:2])) >= _OLDEST

    @property
    def _text(self) -> Any:
        """The configuration of the LLM."""
        return self.config.text_config

    # --- vision ---

    @cached_property
    def _settings(self) -> dict[str, Any]:
        return video_settings(self.checkpoint, UNCHANGED)

    @property
    def _side(self) -> int:
        """Patches along a side of a token."""
        return int(self.config.vision_config.pooling_kernel_size)

    @property
    def _patch(self) -> int:
        """Pixels along a side of a patch."""
        return int(self.config.vision_config.patch_size)

    @property
    def spread(self) -> str:
        """As transformers' processor chooses a number of frames."""
        return "starts"

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The size that frames are resized to: whole tokens, as many as are allowed at the frame's own shape.

        Of a very long frame there is one row or column.
        """
        cell, most = self._patch * self._side, int(self._settings.get("max_soft_tokens", _TOKENS))
        scale = math.sqrt(most * cell**2 / (height * width))
        rows, columns = (math.floor(scale * edge / cell) for edge in (height, width))
        if rows == 0:
            rows, columns = 1, min(width // height, most)
        elif columns == 0:
            rows, columns = min(height // width, most), 1
        return rows * cell, columns * cell

    def preprocess(self, frames: Tensor, sizing: Sizing, device: torch.device) -> dict[str, Tensor]:  # noqa: ARG002
        """Patches (n, P, 3 x patch x patch), row by row, and where they are: (n, P, 2), column and row.

        The processor fills P up to the same number for all sizes, which the encoder leaves out again.
        """
        height, width = self.size(*frames.shape[1:3])
        x = normalise(resize(frames, height, width, self._settings), self._settings, device)  # (n, 3, height, width)
        h, w = height // self._patch, width // self._patch
        x = x.view(len(x), 3, h, self._patch, w, self._patch).permute(0, 2, 4, 3, 5, 1)  # n, row, column, y, x, channel
        places = torch.cartesian_prod(torch.arange(h, device=device), torch.arange(w, device=device)).flip(-1)
        return {
            "pixel_values_videos": x.reshape(len(x), h * w, -1),
            "video_position_ids": places.expand(len(x), -1, -1),
            "num_frames_per_video": torch.tensor([len(x)], device=device),
        }

    def _grid(self, pixels: dict[str, Tensor]) -> tuple[int, int, int]:
        """Frames, rows and columns of patches."""
        columns, rows = (pixels["video_position_ids"][0].amax(0) + 1).tolist()
        return len(pixels["pixel_values_videos"]), rows, columns

    def encode(self, model: Any, pixels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Pooled and projected features."""
        frames, rows, columns = self._grid(pixels)
        (out,) = model.model.get_video_features(**pixels, return_dict=True).pooler_output
        return {"features": out.view(frames, rows // self._side, columns // self._side, -1)}

    def last_attention(self, model: Any) -> nn.Module:
        """That of the last layer."""
        return model.model.vision_tower.encoder.layers[-1].self_attn

    def key_heads(self, model: Any) -> int:  # noqa: ARG002
        """Those of the configuration."""
        return int(self.config.vision_config.num_key_value_heads)

    def keys(self, model: Any, inputs: Tensor) -> Tensor:
        """Each head's keys are normalised, as in the encoder."""
        attention: Any = self.last_attention(model)
        heads = attention.k_proj(inputs).unflatten(-1, (-1, attention.head_dim))
        return attention.k_norm(heads).flatten(-2).flatten(0, -2)

    def to_grid(self, model: Any, patches: Tensor, pixels: dict[str, Tensor]) -> Tensor:  # noqa: ARG002
        """Mean over the square of patches that is pooled into one token."""
        x = patches.view(*self._grid(pixels), -1).permute(0, 3, 1, 2)
        return F.avg_pool2d(x, self._side).permute(0, 2, 3, 1)

    # --- language ---

    @property
    def template_kwargs(self) -> dict[str, Any]:
        """Whether the model thinks before it answers, if the user says so."""
        return thinking_kwargs(self.checkpoint)

    def expand_placeholder(self, text: str, grid: TokenGrid) -> str:
        """Every frame after its time in minutes and seconds, between the tokens that enclose an image."""
        begin, end = self.tokenizer.convert_ids_to_tokens([self.config.boi_token_id, self.config.eoi_token_id])
        times = [divmod(int(max(seconds, 0)), 60) for seconds in grid.seconds]
        frames = [f"{minutes:02d}:{seconds:02d} {begin}{_VIDEO}{end}" for minutes, seconds in times]
        return text.replace(_VIDEO, " ".join(frames))

    @property
    def window(self) -> int | None:
        """That of its layers with a window."""
        return int(self._text.sliding_window)

    def mutual(self, ids: Tensor) -> Tensor:
        """In the larger models the tokens of a frame; there is text between two frames."""
        if self._text.use_bidirectional_attention != "vision":
            return super().mutual(ids)
        inside = ids == self.placeholder
        begins = inside & ~torch.cat([inside.new_zeros(1), inside[:-1]])
        return (begins.cumsum(0) - 1).masked_fill(~inside, -1)

    def decoder_kwargs(self, model: Any, ids: Tensor, visual: Tensor) -> dict[str, Any]:
        """Embeddings of the tokens for each layer, in the small models; visual tokens have that of padding."""
        if not self._text.hidden_size_per_layer_input:
            return {}
        ids = ids.masked_fill(visual >= 0, self._text.pad_token_id)
        return {"per_layer_inputs": model.get_decoder().get_per_layer_inputs(ids[None], None)}
