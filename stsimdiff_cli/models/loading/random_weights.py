"""Dummies: folders with a published configuration and no weights, to measure what a model costs without having it.

A dummy takes the same path as a real checkpoint: `write_dummy` makes a folder that looks like one, and loading fills
the part that a step needs with seeded noise (`random_model`). Time and memory are those of the real model; its features
and answers mean nothing, and neither do the communities of its tokens.
"""

from __future__ import annotations

import json
import zlib
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForImageTextToText, PretrainedConfig
from transformers.initialization import no_init_weights

from .checkpoint import DUMMY
from .partial import Trim
from .presets import find_preset

_STD = 0.02  # `initializer_range` of all these models
#: How special tokens are found in a text: exactly as they are spelled.
_VERBATIM = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


def write_dummy(folder: Path, name: str, **overrides: Any) -> Path:
    """Write the folder of the preset `name`: configuration, preprocessing, tokenizer and chat template, no weights.

    `overrides` change entries of the configuration; a dictionary changes entries within a part, e.g.
    text_config={"num_hidden_layers": 2}. All words are unknown to the tokenizer: only their number counts.
    RequestError if there is no such preset.
    """
    preset = find_preset(name)
    config = deepcopy(preset.config) | {"dtype": "bfloat16", DUMMY: True}
    for entry, change in overrides.items():
        config[entry] = config.get(entry, {}) | change if isinstance(change, dict) else change
    unknown = next((text for text, number in preset.special_tokens.items() if number == 0), "<unk>")
    tokenizer = {
        "version": "1.0",
        "added_tokens": [
            {"id": number, "content": text, **_VERBATIM} for text, number in preset.special_tokens.items()
        ],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": {unknown: 0, **preset.special_tokens}, "unk_token": unknown},
    }
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": preset.eos_token, "unk_token": unknown}
    files = {"config.json": config, "tokenizer.json": tokenizer, "tokenizer_config.json": names, **preset.preprocessing}
    folder.mkdir(exist_ok=True)
    for file, content in files.items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(json.dumps(content, indent=2))
    (folder / "chat_template.jinja").write_text(preset.chat_template)
    return folder


def random_model(
    config: PretrainedConfig, device: torch.device, dtype: torch.dtype, attention: str, trim: Trim = lambda _: None
) -> Any:
    """A model of `config` without what `trim` takes out, on `device` in `dtype`: norms are neutral, the rest is noise.

    The noise is seeded by the name of each parameter, so a part has the same weights whatever other parts are there.
    On the device `meta`, parameters have shapes and no values.
    """
    with no_init_weights(), device:
        model: Any = AutoModelForImageTextToText.from_config(config, dtype=dtype, attn_implementation=attention)
    trim(model)
    model.tie_weights()
    for name, parameter in model.named_parameters():
        if not parameter.is_meta:
            _fill(name, parameter)
    return model


@torch.no_grad()
def _fill(name: str, parameter: nn.Parameter) -> None:
    if parameter.ndim == 1 and name.endswith(("weight", "bias")):
        parameter.fill_(1.0 if name.endswith("weight") else 0.0)
    else:
        generator = torch.Generator(parameter.device).manual_seed(zlib.crc32(name.encode()))
        parameter.normal_(0.0, _STD, generator=generator)
