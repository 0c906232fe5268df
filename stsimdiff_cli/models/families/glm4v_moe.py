"""GLM-4.5V and GLM-4.6V (GLM-V team, 2025): GLM-4.1V with a mixture of experts in its LLM."""

from __future__ import annotations

from typing import ClassVar

from .glm4v import Glm4v


class Glm4vMoe(Glm4v):
    """The same tokens, prompts and positions; the first layers of the LLM have no experts."""

    name: ClassVar[str] = "glm4v_moe"
