"""Compressed files in vLLM, with the positions that their tokens had in the video: a plug-in for vLLM.

    file --library--> CompressedVideo --prompts--> VideoSpan --processor--> vLLM's engine --models--> LLM

The plug-in adds model classes under names of their own, so that vLLM serves every other model as before. They are
vLLM's classes for the same checkpoints, except that a video is not pixels but rows of a compressed file, and that
positions are those of the file.

Families whose positions are plain numbers get theirs through the same door as Qwen-VL's three-part positions: told
that its rotary embedding has three sections, an LLM takes three positions a token, and three equal ones mean what one
does. So tokens keep their gaps there too.
"""

from __future__ import annotations

import multiprocessing
import os
from typing import Any

#: Family -> the class in models.py that serves it.
CLASSES = {
    "qwen2_vl": "Qwen2VL",
    "qwen2_5_vl": "Qwen25VL",
    "qwen3_vl": "Qwen3VL",
    "llava_onevision": "LlavaOnevision",
    "llava_next_video": "LlavaNextVideo",
    "llava_video": "LlavaVideo",
}
#: Families in their authors' format, not transformers': the family reads their configuration and writes their prompts
#: (they have no chat template, so a server cannot), and their repetition penalty counts the answer alone.
AUTHORED = {"llava_video"}
#: Variable of the environment that tells vLLM's processes what is served (library.py).
SERVED = "STSIMDIFF_SERVED"
#: Name of the loader of media and of the parser of configurations, and the scheme of the addresses that are loaded.
SCHEME = "stsimdiff"


def architecture(family: str) -> str:
    """The name under which vLLM knows the class of a family."""
    return f"StSimDiff{CLASSES[family]}"


def register() -> None:
    """Called by vLLM in each of its processes, by the entry point in the group `vllm.general_plugins`."""
    from vllm import ModelRegistry
    from vllm.multimodal.media import connector
    from vllm.transformers_utils.config import register_config_parser

    from .api_server import end_with_parent
    from .configuration import FamilyConfig

    if SERVED in os.environ and multiprocessing.parent_process():  # an engine of `stsimdiff serve`
        end_with_parent()

    for family, name in CLASSES.items():
        ModelRegistry.register_model(architecture(family), f"{__name__}.models:{name}")

    register_config_parser(SCHEME)(FamilyConfig)

    @connector.MEDIA_CONNECTOR_REGISTRY.register(SCHEME)
    def load(*_: Any, **__: Any) -> Any:
        from .connector import Connector

        return Connector()
