"""One file a model family: how its checkpoints turn frames into tokens and lay tokens out in a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import RequestError
from .. import FAMILIES
from ..loading.checkpoint import find_checkpoint
from ..loading.damage import reading

if TYPE_CHECKING:
    from .base import Family


def open_family(model: str, revision: str | None = None) -> Family:
    """The family object of a model name; no weights are read. ModelError for a configuration that makes no sense."""
    checkpoint = find_checkpoint(model, revision)
    made = FAMILIES.load(checkpoint.family)
    for name, value in checkpoint.options.items():
        if value not in made.options.get(name, ()):
            known = ", ".join(f"{key}={'|'.join(values)}" for key, values in made.options.items())
            raise RequestError(
                f"The family {made.name} has no option {name}={value}.",
                f"Its options are: {known}." if known else "It has none: leave out what follows the colon.",
            )
    with reading(f"The configuration of {checkpoint.id}"):
        family: Family = made(checkpoint)
        if family.config is None or family.frames_per_slot < 1:  # both show damage when they are first read
            raise ValueError("a slot has no frames")
    return family
