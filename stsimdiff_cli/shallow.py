"""The LLM that made a video's tokens: found again, loaded as a user wants it, its first layers run for a method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .errors import RequestError
from .inside import Session
from .models.devices import pick_attention, pick_dtype
from .models.quantize import check_quantize
from .models.shelf import Shelf
from .records import ModelRef, VideoTokens
from .timing import Stopwatch

if TYPE_CHECKING:  # these import transformers, which not everybody needs
    from .models.base import Family
    from .models.language import LanguageModel


def matching_family(made_by: ModelRef, model: str | None = None) -> Family:
    """The family of the model that made a file; RequestError if `model` (or what is found now) is another one."""
    from .models.loading import open_family

    family = open_family(model or made_by.id, made_by.revision if model is None else None)
    if family.checkpoint.fingerprint != made_by.fingerprint:
        if model is not None and model != made_by.id:
            problem = f"The tokens were made by {made_by.id}; {model} is another model and cannot read them."
        else:
            problem = f"The model {made_by.id} has changed since the tokens were made."
        raise RequestError(problem, "Leave out --model, or encode the video again with that model.")
    return family


@dataclass(frozen=True)
class How:
    """How the LLM is to be loaded, as a user says it."""

    device: torch.device
    dtype: str
    attention: str
    quantize: str | None

    def load(self, shelf: Shelf | None, family: Family, **which: Any) -> LanguageModel:
        """The LLM from the shelf; RequestError for a wish that this machine cannot fulfil."""
        kind = pick_dtype(self.dtype, self.device, family.checkpoint)
        kernel = pick_attention(self.attention, self.device, kind)
        check_quantize(self.quantize)
        return (shelf or Shelf()).language(family, self.device, kind, attention=kernel, quantize=self.quantize, **which)


@dataclass
class ShallowLlm:
    """The first layers of the LLM that made the tokens, loaded when a method asks for them (methods.base.Llm)."""

    tokens: VideoTokens
    question: str
    model: str | None
    how: How
    shelf: Shelf
    watch: Stopwatch
    asked: bool = False

    def _load(self, layers: int | None) -> LanguageModel:
        self.asked = True
        self.watch.step("load")
        family = matching_family(self.tokens.grid.model, self.model)
        language = self.how.load(self.shelf, family, layers=layers, probed=True)
        self.watch.step("importance")
        return language

    def importance(self, index: Tensor, layer: int) -> Tensor:
        """See `methods.base.Llm`."""
        language = self._load(layer + 1)
        candidates = self.tokens.embeddings[index].read()
        return language.importance(self.tokens.grid, candidates, index, self.question, layer)

    def prefill(self, session: Session) -> None:
        """See `methods.base.Llm`."""
        if session.finished:
            return
        language = self._load(session.depth)
        language.prune(self.tokens.grid, self.tokens.embeddings.read(), self.question, session)
