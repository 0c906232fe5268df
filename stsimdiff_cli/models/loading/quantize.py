"""The LLM in 4 or 8 bits: bitsandbytes quantises its linear layers while they are loaded."""

from __future__ import annotations

import logging
import re
from importlib.util import find_spec
from typing import Any

import torch

from ...errors import ModelError, RequestError

#: What `BitsAndBytesConfig` takes for each.
_SETTINGS: dict[str, dict[str, Any]] = {
    "4bit": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "8bit": {"load_in_8bit": True},
}


def check_quantize(name: str | None) -> None:
    """RequestError for an unknown name, or if the packages for quantisation are not installed."""
    if name is None:
        return
    if name not in _SETTINGS:
        raise RequestError(f"There is no quantisation {name!r}.", f"Use {' or '.join(_SETTINGS)}.")
    missing = [package for package in ("bitsandbytes", "accelerate") if find_spec(package) is None]
    if missing:
        raise RequestError(
            f"--quantize needs packages that are not installed: {', '.join(missing)}.",
            "pip install 'stsimdiff[quantize]'",
        )


#: Packages that read weights which are stored quantised, by the method that config.json names.
_STORED = {
    "awq": ("gptqmodel",),
    "gptq": ("gptqmodel", "optimum"),
    "bitsandbytes": ("bitsandbytes", "accelerate"),
    "compressed-tensors": ("compressed_tensors",),
    "fp8": ("accelerate",),
}
#: What names of quantised checkpoints end in.
_SUFFIX = re.compile(r"[-_](AWQ|GPTQ|FP8|bnb|unsloth|int[48]|w[48]a(8|16)|quantized|[48]bit)\b.*", re.IGNORECASE)


def check_stored(config: dict[str, Any], model: str) -> None:
    """ModelError for weights that are stored quantised, if what reads them is not installed."""
    stored = config.get("quantization_config")
    if not isinstance(stored, dict):
        return
    method = str(stored.get("quant_method"))
    missing = [package for package in _STORED.get(method, ()) if find_spec(package) is None]
    if missing:
        plain = _SUFFIX.sub("", model)
        other = f", or use {plain}" if plain != model else ", or use the checkpoint that it was made from"
        raise ModelError(
            f"The weights of {model} are quantised ({method}), and {' and '.join(missing)} is not installed.",
            f"pip install {' '.join(missing)}{other}; --quantize 4bit then does the same.",
        )


def quantization(name: str, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Arguments of `from_pretrained` for it. Products are computed in `dtype`; the LM head is not quantised."""
    from transformers import BitsAndBytesConfig

    check_quantize(name)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it would warn about every single product
    compute = {"bnb_4bit_compute_dtype": dtype} if name == "4bit" else {}
    return {
        "quantization_config": BitsAndBytesConfig(**_SETTINGS[name], **compute),
        "device_map": {"": device},  # quantised weights do not move
    }
