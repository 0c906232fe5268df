"""What a model family is: how its checkpoints turn frames into tokens and lay tokens out in a prompt.

A family describes. Loading, prompting, importance and answering are written once, for all families, in `loading/` and
`inference/`; they ask a family for what follows, in this order:

    frames --preprocess--> pixels --encode--> features (t, H, W, D)
                                  --last_attention, key_projection, key_heads, keys, to_grid--> saliency and keys on it
    question --prompt_text, or the chat template and expand_placeholder--> ids
             --layout_of, positions--> prompt
             --causal, window, mutual, embed_special, decoder_kwargs, deepstack_kwargs--> inputs of the LLM
             --generate_kwargs, answer_text--> answer

To add a family, write a subclass of Family in a file of this folder. It must define `name`, `preprocess`, `encode`,
`last_attention` and `to_grid`. Everything else has a default, which suits a model that encodes frames one by one,
takes one placeholder for the whole video and counts positions 0, 1, 2, ...; override what differs. Families with a
SigLIP or CLIP encoder start from `llava.Llava`. If transformers has no class for the checkpoint, `config` returns a
configuration whose class can hold the weights: one of transformers' (llava_video.py), or one registered with a class
of our own (nvila_model.py); `key_mapping` renames the tensors. The rest, with the tests, is on the page docs/adding-
a-family.md.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PretrainedConfig
from transformers import __version__ as installed

from ...errors import ModelError
from ...records import FROM_CLS, RECEIVED, Coverage, Layout, Sizing, TokenGrid
from ..loading.checkpoint import Checkpoint
from ..loading.tokenizer import read_tokenizer

#: Layers that keep one state for all tokens before, instead of keys and values of each.
LINEAR = "linear_attention"
#: Layers in which a token sees a window of the tokens before it.
SLIDING = "sliding_attention"
#: An option of families whose chat template has a variable `enable_thinking`; see `thinking_kwargs`.
THINKING: dict[str, tuple[str, ...]] = {"thinking": ("on", "off")}


def thinking_kwargs(checkpoint: Checkpoint) -> dict[str, Any]:
    """Whether the model thinks before it answers, for the chat template, if the user says so."""
    asked = checkpoint.options.get("thinking")
    return {} if asked is None else {"enable_thinking": asked == "on"}


class Family(ABC):
    """Everything about a checkpoint that is specific to its family; holds configuration, no weights."""

    name: ClassVar[str]
    #: What the vision encoder can provide besides features.
    evidence: ClassVar[frozenset[str]] = frozenset({"saliency", "keys"})
    #: Whether the encoder puts a [CLS] token before the patches of every frame. Then saliency is attention from it.
    class_token: ClassVar[bool] = False
    #: Whether frames keep their shape and about their size, so that a user may bound their pixels.
    native_resolution: ClassVar[bool] = False
    #: What a user may set about its checkpoints, as in `--model NAME:option=value`, and the values.
    options: ClassVar[dict[str, tuple[str, ...]]] = {}
    #: Tensor names of the checkpoint (regular expressions) -> transformers' names for them.
    key_mapping: ClassVar[dict[str, str]] = {}

    def __init__(self, checkpoint: Checkpoint) -> None:
        if not self.can_run():
            raise ModelError(
                f"The model {checkpoint.id} needs a newer transformers than {installed}.",
                "pip install --upgrade transformers",
            )
        self.checkpoint = checkpoint

    @classmethod
    def can_run(cls) -> bool:
        """Whether the installed transformers has what the family needs."""
        return True

    @classmethod
    def saliency(cls) -> str:
        """What saliency is in this family, as the grid of its tokens says: FROM_CLS or RECEIVED."""
        return FROM_CLS if cls.class_token else RECEIVED

    @cached_property
    def config(self) -> PretrainedConfig:
        """The whole configuration in transformers' terms. Do not change it: to trim it, trim a copy."""
        return AutoConfig.from_pretrained(self.checkpoint.path, trust_remote_code=False)

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer; ModelError if it cannot be loaded."""
        return read_tokenizer(self.checkpoint, self.config)

    @cached_property
    def context(self) -> int | None:
        """Positions of the LLM, which is how many tokens it can read; None if the configuration does not say.

        A model of noise answers nothing, so that its prompts may have any length.
        """
        stated = getattr(self.config.get_text_config(), "max_position_embeddings", None)
        return None if self.checkpoint.dummy or not stated else int(stated)

    @cached_property
    def layer_types(self) -> tuple[str, ...]:
        """What mixes the tokens in each layer of the LLM, e.g. full_attention; () if the configuration does not say."""
        return tuple(getattr(self.config.get_text_config(), "layer_types", None) or ())

    def attention_layer(self, layer: int) -> int:
        """The first layer of the LLM from `layer` on with attention weights from the last token to the whole prompt.

        Linear attention has none, and windows do not reach far.
        """
        types = self.layer_types
        return next((i for i in range(layer, len(types)) if types[i] not in (LINEAR, SLIDING)), layer)

    # --- vision: required ---

    @abstractmethod
    def preprocess(self, frames: Tensor, sizing: Sizing, device: torch.device) -> dict[str, Tensor]:
        """The encoder's inputs, from (n, height, width, 3) uint8 frames, all or some of a video.

        Only families of native resolution need `sizing`: what the size of a frame depends on besides the frame.
        """

    @abstractmethod
    def encode(self, model: Any, pixels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Encode preprocessed frames: `features` (t, H, W, D), after projector, pooling and merging.

        Also `deepstack` (t, H, W, K, D), if the encoder hands the LLM the features of K more layers.
        """

    @abstractmethod
    def last_attention(self, model: Any) -> nn.Module:
        """The attention module of the last encoder layer that the features come from."""

    @abstractmethod
    def to_grid(self, model: Any, patches: Tensor, pixels: dict[str, Tensor]) -> Tensor:
        """Bring per-patch values (patches, C), in the encoder's order, to the token grid: (t, H, W, C).

        Pools, merges and reorders exactly as `encode` does with features.
        """

    # --- vision: optional ---

    @property
    def frames_per_slot(self) -> int:
        """Frames that the encoder merges into one time slot. Default: 1."""
        return 1

    @property
    def spread(self) -> str:
        """How the model's authors spread frames over a video: one of `video.sampling.SPREADS`. Default: LLaVA's way."""
        return "truncated"

    def coverage_of(self, width: int, height: int) -> Coverage:  # noqa: ARG002
        """The part of a frame of `width` x `height` pixels that the token grid covers. Default: the whole frame."""
        return Coverage()

    def slot_seconds(self, frames: tuple[float, ...]) -> float:
        """The time of a slot, from the times of its frames. Default: that of the first."""
        return frames[0]

    def slot_period(self, period: float) -> float | None:  # noqa: ARG002
        """Seconds of a slot as position ids count them, where each frame stands for `period` seconds of the video.

        Default: None, positions do not depend on it.
        """
        return None

    def key_projection(self, model: Any) -> Any:
        """The linear layer of `last_attention` that makes the keys. Default: `k_proj`."""
        return self.last_attention(model).k_proj

    def key_heads(self, model: Any) -> int:
        """Heads of the keys. Default: `num_heads` of `last_attention`."""
        attention: Any = self.last_attention(model)
        return int(attention.num_heads)

    def keys(self, model: Any, inputs: Tensor) -> Tensor:
        """Keys of `last_attention` before rotary embedding, all heads side by side: (patches, K).

        inputs are those of `key_projection`, (patches, width) or (frames, patches, width).
        """
        return self.key_projection(model)(inputs).flatten(0, -2)

    # --- language: optional ---

    #: What the chat template receives for the video.
    video_part: ClassVar[dict[str, str]] = {"type": "video"}
    #: True if the prompt holds one placeholder for each slot instead of one for the whole video.
    placeholder_per_slot: ClassVar[bool] = False

    @property
    def template_kwargs(self) -> dict[str, Any]:
        """Further variables of the chat template. Default: none."""
        return {}

    @cached_property
    def placeholder(self) -> int:
        """The id that stands for a visual token in a prompt. Default: the configuration's `video_token_id`."""
        return int(self.config.video_token_id)

    def layout_of(self, shape: tuple[int, int, int]) -> Layout:  # noqa: ARG002
        """Ids around and between the visual tokens of a grid (T, H, W), in the prompt's one video placeholder.

        Default: none.
        """
        return Layout()

    def expand_placeholder(self, text: str, grid: TokenGrid) -> str:  # noqa: ARG002
        """The prompt that the chat template rendered, with the family's text for this video. Default: unchanged.

        The user's question is not in `text`: a placeholder that it spells stays text.
        """
        return text

    def prompt_text(self, grid: TokenGrid, question: str) -> tuple[str, str] | None:  # noqa: ARG002
        """The prompt's text before and after the video, if the family writes all of it.

        The two are tokenized separately. The question stands once in one of them, as it is or without the space around
        it, and nothing else depends on it. Default: None, the chat template writes the prompt.
        """
        return None

    def positions(self, model: Any, ids: Tensor, visual: Tensor, grid: TokenGrid) -> Tensor:  # noqa: ARG002
        """Position ids (R, L) of a whole prompt; ids (L,) and visual (L,) as in records.Prompt.

        Default: (1, L), counting from 0.
        """
        return torch.arange(len(ids), device=ids.device)[None]

    def rotary_positions(self, positions: Tensor) -> Tensor:
        """What the LLM's rotary embedding takes, from the position ids that the model takes. Default: the same."""
        return positions

    @property
    def causal(self) -> bool:
        """Whether a token of the LLM sees all tokens before it and no others, wherever it attends to tokens at all.

        If not, `window` and `mutual` say what it sees: so not where a family has a window or defines groups.
        """
        return self.window is None and type(self).mutual is Family.mutual

    @property
    def window(self) -> int | None:
        """Positions that a token sees in layers of type SLIDING, its own included. Default: None, no such layers."""
        return None

    def mutual(self, ids: Tensor) -> Tensor:
        """Groups of tokens that also see each other forwards: the number of each token's group, or -1: (L,) int64.

        In layers of type SLIDING if there is a window, else in all layers. ids (L,) are those of a prompt, or of its
        beginning, after dropping. Default: no groups.
        """
        return torch.full_like(ids, -1)

    def embed_special(self, model: Any, embeddings: Tensor, ids: Tensor, visual: Tensor) -> None:  # noqa: B027
        """Write into embeddings (L, D) what the input embeddings do not hold, e.g. a learned newline. Default: none."""

    def decoder_kwargs(self, model: Any, ids: Tensor, visual: Tensor) -> dict[str, Any]:  # noqa: ARG002
        """Further arguments of the decoder for a prompt, or a piece of one, as in `positions`. Default: none."""
        return {}

    def deepstack_kwargs(self, visual: Tensor, deepstack: Tensor) -> dict[str, Any]:
        """The decoder's arguments for deepstack features: visual (L,) bool, and the features (M, K, D) there.

        Required if `encode` returns deepstack features.
        """
        raise NotImplementedError(f"{self.name} has no deepstack features")

    def answer_text(self, text: str, grid: TokenGrid) -> str:  # noqa: ARG002
        """An answer, or its beginning, with what the family's words mean for this video. Default: unchanged."""
        return text

    def generate_kwargs(self, model: Any, prompt_length: int) -> dict[str, Any]:  # noqa: ARG002
        """Further arguments of `generate` for a prompt of that many tokens. Default: none."""
        return {}
