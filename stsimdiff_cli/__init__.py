"""stsimdiff: offline video token compression for multimodal LLMs (ST-SimDiff).

The public names below are imported when they are first used, so that `import stsimdiff_cli` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Runtime": ".models.loading.runtime",
    "Sampling": ".video",
    "Context": ".pipeline",
    "ModelCache": ".models.inference.model_cache",
    "encode_video": ".pipeline",
    "compress_tokens": ".pipeline",
    "converse": ".pipeline",
    "converse_inside": ".pipeline",
    "parse_method": ".methods.spec",
    "parse_ratio": ".ratio",
    "load": ".storage.reading",
    "save_tokens": ".storage.writing",
    "save_compressed": ".storage.writing",
    "StsimdiffError": ".errors",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name], __name__), name)
