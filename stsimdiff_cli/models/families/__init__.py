"""One file a model family: how its checkpoints turn frames into tokens and lay tokens out in a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import FAMILIES
from ..loading.checkpoint import find_checkpoint

if TYPE_CHECKING:
    from .base import Family


def open_family(model: str, revision: str | None = None) -> Family:
    """The family object of a model name; no weights are read."""
    checkpoint = find_checkpoint(model, revision)
    return FAMILIES.load(checkpoint.family)(checkpoint)
