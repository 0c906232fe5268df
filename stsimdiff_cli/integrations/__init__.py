"""Plug-ins for other tools. Each module is imported only by the tool that it is for."""

from __future__ import annotations

from typing import Any


def lmms_manifest() -> Any:
    """The manifest that lmms-eval's entry point asks for: the model's name, and where its class is.

    It is in this module, not in lmms.py, because lmms-eval reads entry points with every command, while its own modules
    are only half imported.
    """
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="stsimdiff", simple_class_path=f"{__name__}.lmms.StSimDiffModel")
