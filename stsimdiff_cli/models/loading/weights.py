"""Loading the part of a checkpoint that a step needs, and nothing else.

`from_pretrained` reads only weights for which the model has parameters, and partial.py makes models without those that
a step does not need: encoding has no LLM, importance only its first layers, answering no vision side.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from safetensors import safe_open
from transformers import PretrainedConfig

from ...errors import ModelError, RequestError, StsimdiffError
from .checkpoint import Checkpoint
from .damage import reason
from .memory import out_of_memory
from .partial import Trim, only_first_layers, only_language, only_vision, partial_model
from .quantize import check_stored, quantization
from .quiet import quiet
from .runtime import ResolvedRuntime


class WeightSource(Protocol):
    """What loading must know about a model; a Family is one."""

    @property
    def checkpoint(self) -> Checkpoint:
        """Where the weights are."""

    @property
    def config(self) -> PretrainedConfig:
        """The whole configuration; a part of the model is made from a trimmed copy."""

    @property
    def key_mapping(self) -> dict[str, str]:
        """Tensor names of the checkpoint (regular expressions) -> transformers' names for them."""


def load_vision(source: WeightSource, runtime: ResolvedRuntime) -> Any:
    """The model without its LLM; ModelError if tensors are missing."""
    config = _copy(source)
    _keep_text_layers(config, 0)
    for part in (config, config.text_config):
        part.tie_word_embeddings = False  # there is neither LM head nor input embeddings
    return _load(source, config, replace(runtime, quantize=None), only_vision)


def load_language(source: WeightSource, runtime: ResolvedRuntime, layers: int | None = None) -> Any:
    """The LLM; with `layers`, only that many of its first layers, and no LM head.

    ModelError if tensors are missing, RequestError if the LLM has fewer layers. For quantisation see quantize.py.
    """
    config = _copy(source)
    config.vision_config.num_hidden_layers = 0
    if hasattr(config.vision_config, "depth"):  # Qwen's name for it
        config.vision_config.depth = 0
    if hasattr(config.vision_config, "deepstack_visual_indexes"):  # they would name layers that are left out
        config.vision_config.deepstack_visual_indexes = []
    if layers is not None:
        require_layers(source, layers)
        _keep_text_layers(config, layers)
    trim = only_language if layers is None else partial(only_first_layers, layers=layers)
    return _load(source, config, runtime, trim)


def require_layers(source: WeightSource, layers: int) -> None:
    """RequestError if the LLM has fewer layers."""
    present = source.config.text_config.num_hidden_layers
    if layers > present:
        raise RequestError(
            f"The LLM of {source.checkpoint.id} has {present} layers.", f"Use a layer from 0 to {present - 1}."
        )


def _copy(source: WeightSource) -> PretrainedConfig:
    """The configuration, to be trimmed; it does not choose the file of its weights."""
    config = deepcopy(source.config)
    if hasattr(config, "transformers_weights"):
        config.transformers_weights = None
    return config


def _depend_on_depth(text: PretrainedConfig) -> bool:
    """Whether the first layers of an LLM with more layers are others than those of a shorter one.

    In small models of Gemma, one table embeds each token for all layers, and the last layers share keys and values.
    """
    return any(getattr(text, name, 0) for name in ("hidden_size_per_layer_input", "num_kv_shared_layers"))


def _keep_text_layers(config: PretrainedConfig, layers: int) -> None:
    """Make a model with so many layers, unless a longer one begins with others: that is cut after it is made."""
    text = config.text_config
    if _depend_on_depth(text):
        return
    text.num_hidden_layers = layers
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:layers]


def _load(source: WeightSource, config: PretrainedConfig, runtime: ResolvedRuntime, trim: Trim) -> Any:
    name, quantize = source.checkpoint.id, runtime.quantize
    device, dtype, attention = runtime.device, runtime.dtype, runtime.attention
    if source.checkpoint.dummy:
        from .random_weights import random_model

        if quantize:
            raise RequestError(f"{name} has no weights that could be quantised.", "Leave out --quantize.")
        with quiet():
            return random_model(config, device, dtype, attention, trim).eval()
    more = quantization(quantize, device, dtype) if quantize else {}
    check_stored(source.checkpoint.config, name)
    source.checkpoint.require_whole()  # and nothing else is opened
    try:
        with quiet():
            loaded: Any = partial_model(config, trim).from_pretrained(
                **weights_of(source.checkpoint),
                config=config,
                dtype=dtype,
                attn_implementation=attention,
                local_files_only=True,
                use_safetensors=True,  # never a pickle
                key_mapping=source.key_mapping or None,
                output_loading_info=True,
                **more,
            )
    except Exception as error:  # transformers, safetensors and torch raise dozens of types
        if isinstance(error, StsimdiffError) or out_of_memory(error):
            raise
        hint = "Try it without --quantize." if quantize else "Is it complete?"
        raise ModelError(f"The checkpoint {name} cannot be loaded: {reason(error)}.", hint) from error
    model, report = loaded
    mismatched = [entry[0] if isinstance(entry, tuple) else entry for entry in report["mismatched_keys"]]
    empty = [key for key, parameter in model.named_parameters() if parameter.is_meta]
    bad = sorted({*report["missing_keys"], *mismatched, *empty})
    if bad:
        raise ModelError(f"The checkpoint {name} lacks {len(bad)} tensors, e.g. {bad[0]}.", "Download it completely.")
    return (model if quantize else model.to(device)).eval()


def weights_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """Where `from_pretrained` finds the weights: in the folder or, if parts have folders of their own, in slices.

    Slices are named after their folder, e.g. `llm.lm_head.weight`; a tensor that the model lacks is never read.
    """
    if not checkpoint.parts:
        return {"pretrained_model_name_or_path": checkpoint.path}
    slices: dict[str, Any] = {}
    for path in checkpoint.weight_files():
        shard = safe_open(path, framework="pt")
        slices |= {f"{path.parent.name}.{name}": shard.get_slice(name) for name in shard.keys()}  # noqa: SIM118
    return {"pretrained_model_name_or_path": None, "state_dict": slices}
