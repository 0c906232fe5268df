"""What a method is: a dataclass whose fields are its parameters, with a function `select`.

A method sees features, a grid and evidence. It never sees a model, a file or the terminal.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, ClassVar, Protocol, get_type_hints

import torch
from torch import Tensor

from ..errors import RequestError
from ..graph.merging import means
from ..layer_pruning import LayerPruner
from ..ratio import Ratio, shares
from ..records import Selection, VideoTokens

#: Called with the name of a step when it begins ("graph", "importance", ...), for timing.
Step = Callable[[str], None]


class Llm(Protocol):
    """What a method may ask of the LLM: its first layers, run on the video's tokens and the recorded prompt."""

    def importance(self, index: Tensor, layer: int) -> Tensor:
        """Attention from the last prompt token to the tokens `index` (C,) in a layer, mean over heads: (C,) float32.

        Only those tokens and the prompt enter the LLM.
        """

    def prefill(self, pruner: LayerPruner) -> None:
        """Run all tokens and the prompt through the layers, pruning as `pruner` says, until it is finished."""


def parameter(default: Any, doc: str, choices: tuple[str, ...] = ()) -> Any:
    """A dataclass field for a method's parameter, documented where it is declared.

    `default` is a bool, int, float or str; a str may be limited to `choices`.
    """
    return field(default=default, metadata={"doc": doc, "choices": choices})


@dataclass(frozen=True)
class Method(ABC):
    """Chooses exactly ceil(r N) tokens of a video."""

    name: ClassVar[str]
    summary: ClassVar[str] = ""  # what it keeps; of a method in another package (METHODS has that of a built-in one)
    citation: ClassVar[str] = ""  # the publication, likewise
    keeps_all: ClassVar[bool] = False  # vanilla: the ratio is always 1
    streams: ClassVar[bool] = False  # reads features slot by slot, if at all, so that a file may exceed memory
    by_segment: ClassVar[bool] = False  # chooses in a stretch of a video without what follows it
    inside: ClassVar[bool] = False  # can prune between the LLM's layers while it reads the prompt: has `layer_pruner`

    def __post_init__(self) -> None:
        """Refuse a value that is not among its parameter's choices; a method with further checks calls this first."""
        for item in fields(self):
            choices, value = item.metadata["choices"], getattr(self, item.name)
            if choices and value not in choices:
                raise RequestError(
                    f"{self.name}: {item.name}={value} is not one of the choices.", f"Use {' or '.join(choices)}."
                )

    @classmethod
    def check_parameters(cls) -> None:
        """TypeError unless every parameter is declared with `parameter`."""
        if any(isinstance(value, Field) for value in vars(cls).values()):
            raise TypeError(f"expected {cls.__name__} to be decorated with @dataclass(frozen=True)")
        get_type_hints(cls)  # raises for types that are not imported when the program runs
        for item in fields(cls):
            if not {"doc", "choices"} <= item.metadata.keys():
                raise TypeError(f"expected {cls.__name__}.{item.name} to be declared with methods.base.parameter")

    @property
    def needs(self) -> frozenset[str]:
        """Evidence that it requires: "saliency" or "keys" from the vision encoder, "llm" for attention in the LLM."""
        return frozenset()

    @property
    def evidence(self) -> frozenset[str]:
        """The part of `needs` that comes from the vision encoder and must be stored when a video is encoded."""
        return self.needs - {"llm"}

    @property
    def lookback(self) -> int:
        """Slots before a stretch of a video that it looks at: VideoTokens.past."""
        return 0

    @abstractmethod
    def select(self, tokens: VideoTokens, ratio: Ratio, llm: Llm, step: Step) -> Selection:
        """Choose ceil(r N) of the tokens. `llm` may be asked only if "llm" is in `needs`.

        The tokens may be on a GPU. The tensors of the selection may be there or on the CPU, each where it was made.
        """

    def layer_pruner(self, tokens: VideoTokens, ratio: Ratio) -> LayerPruner:  # noqa: ARG002
        """The pruner that works between the LLM's layers; RequestError for a method that does not work there."""
        raise RequestError(
            f"{self.name} does not work inside the LLM.", "Compress with it first, then ask; or see `stsimdiff methods`"
        )

    def parameters(self) -> dict[str, Any]:
        """Every parameter with its value, as recorded in the compressed file."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


def plain_selection(tokens: VideoTokens, index: Tensor, **counts: int) -> Selection:
    """A selection of `index` (M,) without reasons: kind 0 and no community.

    `counts` are added to those that every method records.
    """
    return Selection(
        index=index,
        kind=torch.zeros(len(index), dtype=torch.uint8),
        community=torch.full((len(index),), -1, dtype=torch.int64),
        counts={"tokens": tokens.grid.tokens, "kept": len(index), "candidates": tokens.grid.tokens, **counts},
    )


def pass_through(tokens: VideoTokens, pruner: LayerPruner, llm: Llm, step: Step) -> Selection:
    """The tokens that are left after `pruner` has been run through the LLM's layers, merged ones as their mean.

    The mean is that of the features as they enter the LLM, computed in float32.
    """
    step("importance")
    llm.prefill(pruner)
    member = pruner.merged_into >= 0
    chosen = plain_selection(tokens, pruner.index, merged=int(member.sum()) - len(pruner.index))
    row = torch.searchsorted(pruner.index, pruner.merged_into[member])  # (N',) the kept token that each went into
    grown = torch.bincount(row, minlength=len(pruner.index)) > 1  # (M,) tokens that others went into
    if not bool(grown.any()):
        return chosen
    flat = tokens.features.tensor().flatten(0, 2)
    inside = grown[row]  # (N',)
    number = torch.cumsum(grown, 0) - 1  # (M,)
    mean = means(flat, member.nonzero().squeeze(1)[inside], number[row[inside]], int(grown.sum()))
    features = flat[pruner.index.to(flat.device)]
    features[grown.to(flat.device)] = mean
    return replace(chosen, features=features)


def slot_budgets(tokens: VideoTokens, ratio: Ratio) -> list[int]:
    """Tokens that each slot keeps: ceil(r N) for the video, spread as evenly as whole numbers allow (0 is possible)."""
    slots, rows, columns = tokens.grid.shape
    return shares(ratio.budget(tokens.grid.tokens), [rows * columns] * slots)
