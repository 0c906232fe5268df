"""stsimdiff: offline video token compression for multimodal LLMs (ST-SimDiff).

The public names below are imported when they are first used, so that `import stsimdiff_cli` costs nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for true; typing itself is not imported, see __main__.py
if TYPE_CHECKING:
    from .errors import FileFormatError, ModelError, RequestError, StsimdiffError, VideoError
    from .methods.base import Llm, Method, Step, parameter
    from .methods.spec import parse_method
    from .models.inference.conversation import Answer, Conversation, PrunedConversation
    from .models.inference.model_cache import ModelCache
    from .models.loading.runtime import Runtime
    from .pipeline import (
        Context,
        Fitted,
        all_tokens,
        compress_to,
        compress_tokens,
        converse,
        converse_inside,
        encode_frames,
        encode_video,
        select,
    )
    from .ratio import Ratio, parse_ratio
    from .records import (
        CompressedVideo,
        Coverage,
        Embeddings,
        Frames,
        FrameSize,
        FrameStream,
        Kind,
        Layout,
        ModelRef,
        Selection,
        Source,
        TokenGrid,
        VideoTokens,
    )
    from .storage.byte_budget import ByteBudget, parse_bytes
    from .storage.reading import load
    from .storage.sinks import Destination
    from .storage.writing import save_compressed, save_tokens
    from .timing import Stopwatch
    from .token_features import DenseFeatures, TokenFeatures
    from .video import Sampling

__version__ = "0.1.0"

#: Public names by the module that defines them; the imports above say the same to type checkers.
_MODULES = {
    ".pipeline": (
        "encode_video",
        "encode_frames",
        "compress_tokens",
        "select",
        "compress_to",
        "Fitted",
        "all_tokens",
        "converse",
        "converse_inside",
        "Context",
    ),
    ".video": ("Sampling",),
    ".models.loading.runtime": ("Runtime",),
    ".models.inference.model_cache": ("ModelCache",),
    ".ratio": ("Ratio", "parse_ratio"),
    ".timing": ("Stopwatch",),
    ".records": (
        "Frames",
        "FrameSize",
        "FrameStream",
        "Source",
        "ModelRef",
        "Layout",
        "Coverage",
        "TokenGrid",
        "VideoTokens",
        "Embeddings",
        "Kind",
        "Selection",
        "CompressedVideo",
    ),
    ".models.inference.conversation": ("Conversation", "PrunedConversation", "Answer"),
    ".storage.byte_budget": ("ByteBudget", "parse_bytes"),
    ".storage.reading": ("load",),
    ".storage.sinks": ("Destination",),
    ".storage.writing": ("save_tokens", "save_compressed"),
    ".token_features": ("TokenFeatures", "DenseFeatures"),
    ".methods.base": ("Method", "Llm", "Step", "parameter"),
    ".methods.spec": ("parse_method",),
    ".errors": ("StsimdiffError", "RequestError", "VideoError", "FileFormatError", "ModelError"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Answer",
    "ByteBudget",
    "CompressedVideo",
    "Context",
    "Conversation",
    "Coverage",
    "DenseFeatures",
    "Destination",
    "Embeddings",
    "FileFormatError",
    "Fitted",
    "FrameSize",
    "FrameStream",
    "Frames",
    "Kind",
    "Layout",
    "Llm",
    "Method",
    "ModelCache",
    "ModelError",
    "ModelRef",
    "PrunedConversation",
    "Ratio",
    "RequestError",
    "Runtime",
    "Sampling",
    "Selection",
    "Source",
    "Step",
    "Stopwatch",
    "StsimdiffError",
    "TokenFeatures",
    "TokenGrid",
    "VideoError",
    "VideoTokens",
    "__version__",
    "all_tokens",
    "compress_to",
    "compress_tokens",
    "converse",
    "converse_inside",
    "encode_frames",
    "encode_video",
    "load",
    "parameter",
    "parse_bytes",
    "parse_method",
    "parse_ratio",
    "save_compressed",
    "save_tokens",
    "select",
]


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_MODULE_OF[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
