"""Molmo 2 (Allen Institute for AI, 2025): square frames, 9 x 9 tokens each, which see each other in both directions."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ModelError
from ...records import Sizing, TokenGrid
from ..loading.checkpoint import Checkpoint
from .base import Family
from .preprocess import HALF, normalise, resize, square, video_settings

_VIDEO, _PATCH, _COLUMN = "<|video|>", "<im_patch>", "<im_col>"
#: What stands around a frame, by the processor's `use_frame_special_tokens`.
_TAGS = {True: ("<frame_start>", "<frame_end>"), False: ("<im_start>", "<im_end>")}
#: What transformers' classes take where a checkpoint's files state nothing.
_DEFAULTS = {"size": {"height": 378, "width": 378}, "patch_size": 14, "pooling_size": [3, 3], "resample": 2}


class Molmo2(Family):
    """One frame a slot, its time in words before it; 3 x 3 patches become a token by attention among them.

    Tokens of all frames, and the tags around frames, see each other in both directions; words see only what stands
    before them. A token that is dropped is seen by none: the others see each other as before. The LLM reads everything
    up to the last tag at once. Features are added to the embedding of their placeholder, so what is stored is without
    it.
    """

    name: ClassVar[str] = "molmo2"
    placeholder_per_slot: ClassVar[bool] = True

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        if self._processor.get("video_use_col_tokens"):
            raise ModelError(
                f"The processor of {checkpoint.id} writes {_COLUMN} after every row of a frame, which is not "
                "supported.",
                "Use a published checkpoint, e.g. allenai/Molmo2-8B.",
            )

    @classmethod
    def can_run(cls) -> bool:
        """Its classes are new."""
        return "Molmo2ForConditionalGeneration" in dir(transformers)

    @cached_property
    def _processor(self) -> dict[str, Any]:
        """The settings of the processor itself."""
        return dict(self.checkpoint.json("processor_config.json"))

    @cached_property
    def _settings(self) -> dict[str, Any]:
        settings = video_settings(self.checkpoint, HALF)
        return settings | {name: value for name, value in _DEFAULTS.items() if settings.get(name) is None}

    # --- vision ---

    @property
    def spread(self) -> str:
        """As transformers' processor chooses frames. The authors' own one also takes the last frame."""
        return "starts"

    @cached_property
    def _windows(self) -> Tensor:
        """Which of a frame's patches each token is made of: (H W, patches of a token) int64."""
        side = self._settings["size"]["height"] // self._settings["patch_size"]
        rows, columns = self._settings["pooling_size"]
        if self._settings["size"]["width"] != self._settings["size"]["height"] or side % rows or side % columns:
            raise ModelError(
                f"The frames of {self.checkpoint.id} are not squares of whole tokens, which is not supported.",
                "Download its video_preprocessor_config.json again.",
            )
        patches = torch.arange(side * side).view(side // rows, rows, side // columns, columns)
        return patches.transpose(1, 2).flatten(2).flatten(0, 1)

    def preprocess(self, frames: Tensor, sizing: Sizing, device: torch.device) -> dict[str, Tensor]:  # noqa: ARG002
        """Patches (n, patches, 3 pixels), which of them each token is made of, and the grid (n, H, W).

        Resized without antialiasing, whatever the aspect ratio.
        """
        side, patch = self._settings["size"]["height"], self._settings["patch_size"]
        rows, columns = (side // patch // edge for edge in self._settings["pooling_size"])
        x = normalise(resize(frames, side, side, self._settings, antialias=False), self._settings, device)
        pixels = x.unflatten(3, (-1, patch)).unflatten(2, (-1, patch)).permute(0, 2, 4, 3, 5, 1).flatten(3)
        first = torch.arange(len(frames))[:, None, None] * pixels.shape[1] * pixels.shape[2]
        return {
            "pixel_values_videos": pixels.flatten(1, 2),
            "video_token_pooling": (self._windows + first).flatten(0, 1).to(device),
            "video_grids": torch.tensor([[len(frames), rows, columns]], device=device),
        }

    def encode(self, model: Any, pixels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Features of two layers, pooled by attention and projected."""
        out = model.model.get_video_features(**pixels, return_dict=True).pooler_output
        return {"features": torch.cat(list(out)).view(*pixels["video_grids"][0].tolist(), -1)}

    def last_attention(self, model: Any) -> nn.Module:
        """That of the deepest layer that is pooled."""
        tower = model.model.vision_tower
        layers = self.config.adapter_config.vision_feature_layer
        module: nn.Module = tower.layers[max(layer % len(tower.layers) for layer in layers)].self_attn
        return module

    def key_heads(self, model: Any) -> int:
        """As the configuration has it."""
        attention: Any = self.last_attention(model)
        return int(attention.config.num_key_value_heads)

    def to_grid(self, model: Any, patches: Tensor, pixels: dict[str, Tensor]) -> Tensor:  # noqa: ARG002
        """Mean over the patches of a token: where it looks among them depends on the frame."""
        x = square(patches.view(len(pixels["pixel_values_videos"]), -1, patches.shape[-1])).permute(0, 3, 1, 2)
        return F.avg_pool2d(x, tuple(self._settings["pooling_size"])).permute(0, 2, 3, 1)

    # --- language ---

    def expand_placeholder(self, text: str, grid: TokenGrid) -> str:
        """Every frame between its tags, after its time; the whole prompt after the tokenizer's first token."""
        opening, closing = _TAGS[bool(self._processor.get("use_frame_special_tokens", True))]
        video = " ".join(f"{seconds:.1f} {opening}{_PATCH}{closing}" for seconds in grid.seconds)
        begin = self.tokenizer.bos_token or self.tokenizer.eos_token
        return text.replace(_VIDEO, video) if text.startswith(begin) else begin + text.replace(_VIDEO, video)

    @cached_property
    def _mutual(self) -> Tensor:
        """Ids of the tokens that see each other."""
        tags = [tag for pair in _TAGS.values() for tag in pair]
        return torch.tensor([self.placeholder, *self.tokenizer.convert_tokens_to_ids(tags)])

    def mutual(self, ids: Tensor) -> Tensor:
        """One group: the tokens of all frames, and the tags around them."""
        return torch.isin(ids, self._mutual.to(ids.device)).long() - 1

    def embed_special(self, model: Any, embeddings: Tensor, ids: Tensor, visual: Tensor) -> None:
        """Features are added to the embedding of their placeholder."""
        shown = visual >= 0
        embeddings[shown] += model.get_input_embeddings()(ids[shown])
