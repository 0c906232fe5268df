"""What a model family is: how its checkpoints turn frames into tokens and lay tokens out in a prompt.

A family describes; loading, prompting, importance and answering are written once, for all families, in
`loading.py`, `vision.py`, `prompts.py`, `language.py` and `conversation.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PretrainedConfig

from ...records import Coverage, Layout, TokenGrid
from ..loading.checkpoint import Checkpoint


class Family(ABC):
    """One checkpoint seen through its family's eyes; holds configuration, no weights."""

    name: ClassVar[str]
    gives: ClassVar[frozenset[str]] = frozenset({"saliency", "keys"})  # evidence from the vision encoder
    renamed: ClassVar[dict[str, str]] = {}  # tensor names of the checkpoint (patterns) -> transformers' names for them

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    @cached_property
    def config(self) -> PretrainedConfig:
        """The configuration; whoever trims it, trims a copy."""
        return AutoConfig.from_pretrained(self.checkpoint.path, trust_remote_code=False)

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer; ModelError if it cannot be loaded."""
        from ..loading.tokenizer import read_tokenizer

        return read_tokenizer(self.checkpoint, self.config)

    # --- vision ---

    @property
    @abstractmethod
    def frames_per_slot(self) -> int:
        """Frames that the encoder merges into one time slot."""

    @abstractmethod
    def pixels(self, frames: Tensor, device: torch.device) -> dict[str, Tensor]:
        """Preprocess (n, height, width, 3) uint8 frames into the encoder's inputs."""

    def pixels_of_part(self, frames: Tensor, total: int, device: torch.device) -> dict[str, Tensor]:  # noqa: ARG002
        """The same for a part of a video of `total` frames, if preprocessing depends on that. Default: it does not."""
        return self.pixels(frames, device)

    @abstractmethod
    def features(self, model: Any, pixels: dict[str, Tensor]) -> Tensor:
        """Encode preprocessed frames: (t, H, W, D), after projector, pooling and merging."""

    def encoded(self, model: Any, pixels: dict[str, Tensor]) -> dict[str, Tensor]:
        """`features`, and `deepstack` (t, H, W, K, D) if the encoder hands the LLM more than one layer's features."""
        return {"features": self.features(model, pixels)}

    def slot_seconds(self, frames: tuple[float, ...]) -> float:
        """The time of a slot, from the times of its frames. Default: that of the first."""
        return frames[0]

    def coverage_of(self, width: int, height: int) -> Coverage:  # noqa: ARG002
        """The part of a frame of `width` x `height` pixels that the token grid covers. Default: the whole frame."""
        return Coverage()

    @abstractmethod
    def last_attention(self, model: Any) -> nn.Module:
        """The attention module of the last encoder layer that the features come from."""

    @abstractmethod
    def keys(self, model: Any, inputs: Tensor) -> Tensor:
        """Keys of `last_attention` before rotary embedding, (patches, K), from the input of its projection."""

    @abstractmethod
    def to_grid(self, model: Any, patches: Tensor, pixels: dict[str, Tensor]) -> Tensor:
        """Bring per-patch values (patches, C), in the encoder's order, to the token grid (t, H, W, C).

        Pools, merges and un-permutes exactly as the features are.
        """

    @abstractmethod
    def key_projection(self, model: Any) -> Any:
        """The linear layer of `last_attention` that makes the keys."""

    def layout_of(self, shape: tuple[int, int, int]) -> Layout:  # noqa: ARG002
        """Ids around and between the visual tokens of a grid (T, H, W), in the prompt's single video placeholder."""
        return Layout()

    # --- language ---

    #: What the chat template gets for the video, and whether the prompt holds one placeholder for each slot instead of
    #: one for the whole video.
    video_part: ClassVar[dict[str, str]] = {"type": "video"}
    slotwise: ClassVar[bool] = False

    def written(self, text: str, grid: TokenGrid) -> str:  # noqa: ARG002
        """The prompt that the chat template rendered, and what the family writes into it. Default: nothing."""
        return text

    def around(self, grid: TokenGrid, question: str) -> tuple[str, str] | None:  # noqa: ARG002
        """Prompt text before and behind the video, if the family writes all of it. Default: the chat template does."""
        return None

    def generation(self, model: Any, prompt: int) -> dict[str, Any]:  # noqa: ARG002
        """Options for `generate` beyond ours, for a prompt of that many tokens. Default: none."""
        return {}

    @cached_property
    def placeholder(self) -> int:
        """The id that stands for a visual token in a prompt."""
        return int(self.config.video_token_id)

    @abstractmethod
    def positions(self, model: Any, ids: Tensor, visual: Tensor, grid: TokenGrid) -> Tensor:
        """Position ids (R, L) of a whole prompt: ids (L,), visual (L,) as in records.Prompt."""

    def rotary_positions(self, positions: Tensor) -> Tensor:
        """What the LLM's rotary embedding takes, from position ids as they are passed to the model."""
        return positions

    def deepened(self, visual: Tensor, deepstack: Tensor) -> dict[str, Any]:
        """What the decoder takes besides embeddings: visual (L,) bool and the deepstack features (M, K, D) there."""
        raise NotImplementedError  # a family with deepstack features has it

    def embed_extra(self, model: Any, embeddings: Tensor, ids: Tensor, visual: Tensor) -> None:  # noqa: B027
        """Write embeddings (L, D) that no word table holds, e.g. a learned newline. Default: none."""
