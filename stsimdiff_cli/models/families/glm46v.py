"""GLM-4.6V (GLM-V team, 2025) in transformers' class for it: GLM-4.1V with other frames and times."""

from __future__ import annotations

from typing import ClassVar

from .glm4v import Glm4v


class Glm46V(Glm4v):
    """Times in tenths of a second, unless the checkpoint names another processor."""

    name: ClassVar[str] = "glm46v"
    _processor: ClassVar[str] = "Glm46VProcessor"
