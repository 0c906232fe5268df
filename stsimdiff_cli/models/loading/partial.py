"""Models with modules left out. A weight that a model has no place for is never read from the checkpoint.

transformers opens every tensor of a checkpoint lazily and reads those that the model's own parameters are named after.
So a part is loaded by the ordinary `from_pretrained` of the family's class, in which what the step does not need has
been replaced by an empty module right after it was made (on the meta device, where that costs nothing).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, PretrainedConfig

#: Takes modules out of a model that was just made.
Cutter = Callable[[Any], None]


def only_vision(model: Any) -> None:
    """Leave out the LLM with its word table, and the table of answers."""
    _replace(model, [model.get_decoder(), model.get_output_embeddings()])


def only_language(model: Any) -> None:
    """Leave out all that stands beside the LLM: the vision encoder and the projector. Single tensors stay."""
    text = model.get_decoder()
    beside = [child for child in _home(model, text).children() if child is not text]
    _replace(model, beside)


def only_first_layers(model: Any) -> None:
    """Leave out the table of answers too, unless it is the word table."""
    only_language(model)
    if not model.all_tied_weights_keys:
        _replace(model, [model.get_output_embeddings()])


def part_of(config: PretrainedConfig, cut: Cutter) -> Any:
    """The class that transformers has for a configuration, whose models are cut as they are made.

    It goes by the name and the module of that class, because transformers looks up by them how weights are called.
    """
    whole: Any = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)]

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        whole.__init__(self, *args, **kwargs)
        cut(self)

    names = {"__module__": whole.__module__, "__qualname__": whole.__qualname__, "__doc__": whole.__doc__}
    return type(whole.__name__, (whole,), {**names, "__init__": init})


def _home(model: Any, child: nn.Module) -> nn.Module:
    """The module that holds a module."""
    return next(module for module in model.modules() if any(one is child for one in module.children()))


def _replace(model: Any, modules: list[nn.Module]) -> None:
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if any(child is one for one in modules):
                setattr(module, name, nn.Identity())
