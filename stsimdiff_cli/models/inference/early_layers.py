"""The first layers of the LLM that made a video's tokens, for methods that ask for attention in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from ...errors import RequestError
from ...layer_pruning import LayerPruner
from ...records import Layout, ModelRef, TokenGrid, VideoTokens
from ...timing import Stopwatch
from ..loading.runtime import Runtime
from .model_cache import ModelCache

if TYPE_CHECKING:  # these import transformers, which is needed only when a method asks for the LLM
    from ..families.base import Family
    from .language_model import LanguageModel


def matching_family(made_by: ModelRef, model: str | None, models: ModelCache) -> Family:
    """The family of the model that made a file.

    RequestError if `model` is another one, or if the model has changed since.
    """
    family = models.family(model or made_by.id, made_by.revision if model is None else None)
    if family.checkpoint.fingerprint != made_by.fingerprint:
        if model is not None and model != made_by.id:
            problem = f"The tokens were made by {made_by.id}; {model} is another model and cannot read them."
        else:
            problem = f"The model {made_by.id} has changed since the tokens were made."
        raise RequestError(problem, "Leave out --model, or encode the video again with that model.")
    return family


def check_layout(family: Family, grid: TokenGrid) -> None:
    """Raise RequestError if the token ids around the video cannot be the family's: other places, or unknown ids.

    Ids may differ from what the family writes today: they are stored so that older files keep theirs.
    """
    stored, own = grid.layout, family.layout_of(grid.shape)

    def outline(layout: Layout) -> list[tuple[int, bool, int]]:
        """Each place with whether there are ids, and how many of them are placeholders."""
        parts = [(-1, layout.before), *layout.between, (grid.tokens, layout.after)]
        return [(place, bool(ids), ids.count(family.placeholder)) for place, ids in parts]

    ids = [*stored.before, *(token for _, some in stored.between for token in some), *stored.after]
    if stored != own and (outline(stored) != outline(own) or max(ids, default=0) >= len(family.tokenizer)):
        raise RequestError(
            f"{family.checkpoint.id} writes other token ids around a video than the file holds.",
            "Encode the video again with that model.",
        )


@dataclass
class EarlyLayers:
    """The first layers of the LLM that made the tokens: a methods.base.Llm that loads them when they are asked for."""

    tokens: VideoTokens
    question: str
    model: str | None
    runtime: Runtime
    models: ModelCache
    timer: Stopwatch
    asked: bool = False

    def _family(self) -> Family:
        self.asked = True
        self.timer.step("load")
        family = matching_family(self.tokens.grid.model, self.model, self.models)
        check_layout(family, self.tokens.grid)
        return family

    def _load(self, family: Family, layers: int | None) -> LanguageModel:
        runtime = self.runtime.resolve(family.checkpoint)
        language = self.models.language_model(family, runtime, layers, attention_rows=True)
        self.timer.step("importance")
        return language

    def importance(self, index: Tensor, layer: int) -> Tensor:
        """See `methods.base.Llm`."""
        family = self._family()
        layer = family.attention_layer(layer)
        language = self._load(family, layer + 1)
        candidates = self.tokens.embeddings_at(index)
        return language.importance(self.tokens.grid, candidates, index, self.question, layer).to(index.device)

    def prefill(self, pruner: LayerPruner) -> None:
        """See `methods.base.Llm`."""
        if pruner.finished:
            return
        language = self._load(self._family(), pruner.depth)
        language.prune(self.tokens.grid, self.tokens.embeddings, self.question, pruner)
