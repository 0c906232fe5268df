"""Models with modules left out. A weight for which a model has no parameter is never read from the checkpoint.

transformers opens every tensor of a checkpoint lazily, and reads those that are named after the model's own parameters.
So a part is loaded by the ordinary `from_pretrained` of the family's class, in which whatever a step does not need is
replaced by an empty module right after construction (on the meta device, where that costs nothing).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, PretrainedConfig

#: Takes modules out of a model that was just constructed.
Trim = Callable[[Any], None]


def only_vision(model: Any) -> None:
    """Leave out the LLM with its input embeddings, the LM head, and what is there for sound."""
    sound = [module for name, module in model.named_modules() if name.endswith(("audio_tower", "embed_audio"))]
    _empty(model, [model.get_decoder(), model.get_output_embeddings(), *sound])


def only_language(model: Any) -> None:
    """Leave out everything next to the LLM: the vision encoder and the projector. Single tensors stay."""
    text = model.get_decoder()
    _empty(model, [child for child in _parent(model, text).children() if child is not text])


def only_first_layers(model: Any, layers: int) -> None:
    """Keep the LLM's first layers. Leave out the LM head too, unless it is tied to the input embeddings."""
    only_language(model)
    text = model.get_decoder()
    text.layers = text.layers[:layers]
    if not model.all_tied_weights_keys:
        _empty(model, [model.get_output_embeddings()])


def partial_model(config: PretrainedConfig, trim: Trim) -> Any:
    """The class that transformers has for a configuration, but with its models trimmed on construction.

    It has the name and the module of that class, because transformers looks up by them how weights are named.
    """
    whole: Any = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)]

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        whole.__init__(self, *args, **kwargs)
        trim(self)

    names = {"__module__": whole.__module__, "__qualname__": whole.__qualname__, "__doc__": whole.__doc__}
    return type(whole.__name__, (whole,), {**names, "__init__": init})


def _parent(model: Any, child: nn.Module) -> nn.Module:
    """The module that holds a module."""
    return next(module for module in model.modules() if any(one is child for one in module.children()))


def _empty(model: Any, modules: list[nn.Module]) -> None:
    """Replace modules, wherever the model holds them, by ones without parameters."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if any(child is one for one in modules):
                setattr(module, name, nn.Identity())
