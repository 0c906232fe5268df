"""Loading the part of a checkpoint that a step needs, and nothing else.

`from_pretrained` reads only weights that the model has places for, and parts.py makes models without the places that a
step does not need: encoding has no LLM and no word table, importance the first layers, answering no vision side.
"""

from __future__ import annotations

from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from safetensors import safe_open
from transformers import PretrainedConfig
from transformers.utils import logging as hf_logging

from ..errors import ModelError, RequestError
from . import FAMILIES
from .base import Family
from .checkpoint import Checkpoint, find_checkpoint
from .parts import Cutter, only_first_layers, only_language, only_vision, part_of
from .quantize import quantization


def open_family(model: str, revision: str | None = None) -> Family:
    """The family object of a model name; no weights are read."""
    checkpoint = find_checkpoint(model, revision)
    return FAMILIES.load(checkpoint.family)(checkpoint)


def load_vision(family: Family, device: torch.device, dtype: torch.dtype, attention: str = "sdpa") -> Any:
    """The model without its LLM."""
    config = deepcopy(family.config)
    _cut_text_layers(config, 0)
    for part in (config, config.text_config):
        part.tie_word_embeddings = False  # there are no tables to tie
    return _load(family, config, device, dtype, attention, only_vision)


def load_language(
    family: Family,
    device: torch.device,
    dtype: torch.dtype,
    attention: str = "sdpa",
    layers: int | None = None,
    quantize: str | None = None,
) -> Any:
    """The LLM; with `layers`, only the first so many of its layers, which give no words; see quantize.py."""
    config = deepcopy(family.config)
    config.vision_config.num_hidden_layers = 0
    if hasattr(config.vision_config, "depth"):  # Qwen's name for it
        config.vision_config.depth = 0
    if hasattr(config.vision_config, "deepstack_visual_indexes"):  # layers that are not there
        config.vision_config.deepstack_visual_indexes = []
    if layers is not None:
        require_layers(family, layers)
        _cut_text_layers(config, layers)
    return _load(
        family, config, device, dtype, attention, only_language if layers is None else only_first_layers, quantize
    )


def require_layers(family: Family, layers: int) -> None:
    """RequestError if the LLM has fewer layers."""
    present = family.config.text_config.num_hidden_layers
    if layers > present:
        raise RequestError(
            f"The LLM of {family.checkpoint.id} has {present} layers.", f"Use a layer from 0 to {present - 1}."
        )


def _cut_text_layers(config: PretrainedConfig, layers: int) -> None:
    text = config.text_config
    text.num_hidden_layers = layers
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:layers]


def _load(
    family: Family,
    config: PretrainedConfig,
    device: torch.device,
    dtype: torch.dtype,
    attention: str,
    cut: Cutter,
    quantize: str | None = None,
) -> Any:
    name = family.checkpoint.id
    if family.checkpoint.dummy:
        from .dummy import random_model

        if quantize:
            raise RequestError(f"{name} has no weights that could be quantised.", "Leave out --quantize.")
        with quiet():
            return random_model(config, device, dtype, attention, cut).eval()
    more = quantization(quantize, device, dtype) if quantize else {}
    try:
        with quiet():
            loaded: Any = part_of(config, cut).from_pretrained(
                **weights_of(family.checkpoint),
                config=config,
                dtype=dtype,
                attn_implementation=attention,
                local_files_only=True,
                use_safetensors=True,  # never a pickle
                key_mapping=family.renamed or None,
                output_loading_info=True,
                **more,
            )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        hint = "Try it without --quantize." if quantize else "Is it complete?"
        raise ModelError(f"The checkpoint {name} cannot be loaded: {error}", hint) from error
    model, report = loaded
    mismatched = [entry[0] if isinstance(entry, tuple) else entry for entry in report["mismatched_keys"]]
    bad = sorted([*report["missing_keys"], *mismatched])
    if bad:
        raise ModelError(f"The checkpoint {name} lacks {len(bad)} tensors, e.g. {bad[0]}.", "Download it completely.")
    return (model if quantize else model.to(device)).eval()


def weights_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """Where `from_pretrained` finds the weights: in the folder; or, of parts in folders of their own, in slices.

    Those are named after their folder, e.g. `llm.lm_head.weight`; what the model does not have is never read.
    """
    if not checkpoint.parts:
        return {"pretrained_model_name_or_path": checkpoint.path}
    slices: dict[str, Any] = {}
    for path in checkpoint.weight_files():
        shard = safe_open(path, framework="pt")
        slices |= {f"{path.parent.name}.{name}": shard.get_slice(name) for name in shard.keys()}  # noqa: SIM118
    return {"pretrained_model_name_or_path": None, "state_dict": slices}


@contextmanager
def quiet() -> Any:
    """transformers without bars and advice: the library is silent."""
    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()
