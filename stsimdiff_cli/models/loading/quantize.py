"""The LLM in 4 or 8 bits: bitsandbytes quantises its linear layers while they are loaded."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import Any

import torch

from ...errors import RequestError

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
