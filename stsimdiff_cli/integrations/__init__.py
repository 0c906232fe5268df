"""Plug-ins for other people's tools; each module is imported by that tool alone."""

from __future__ import annotations

from typing import Any


def lmms_manifest() -> Any:
    """What lmms-eval's entry points ask for: the model's name, and where its class is.

    It stands here because lmms-eval reads entry points while its own modules are half imported, with every command.
    """
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="stsimdiff", simple_class_path=f"{__name__}.lmms.StSimDiffModel")
