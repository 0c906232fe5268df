"""Where the stages get the loaded parts of models from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from .base import Family
    from .language import LanguageModel
    from .vision import VisionEncoder


class Shelf:
    """Loads the parts that are asked for; with `keep`, each only once, for whoever handles many videos.

    transformers is imported with the first part, and by nobody who needs none.
    """

    def __init__(self, keep: bool = False) -> None:
        self.keep = keep
        self._kept: dict[Any, Any] = {}

    def encoder(
        self,
        family: Family,
        device: torch.device,
        dtype: torch.dtype,
        evidence: frozenset[str] = frozenset(),
        attention: str = "sdpa",
    ) -> VisionEncoder:
        """The vision side of a model."""
        from .vision import VisionEncoder

        return self._get(VisionEncoder, family, device, dtype, evidence, attention)

    def language(
        self,
        family: Family,
        device: torch.device,
        dtype: torch.dtype,
        layers: int | None = None,
        probed: bool = False,
        attention: str = "sdpa",
        quantize: str | None = None,
    ) -> LanguageModel:
        """The LLM of a model, or its first `layers`; `probed` to read attention."""
        from .language import LanguageModel

        return self._get(LanguageModel, family, device, dtype, layers, probed, attention, quantize)

    def _get(self, build: Any, family: Family, *settings: Any) -> Any:
        key = (build, family.checkpoint.path, *settings)
        if key in self._kept:
            return self._kept[key]
        part = build(family, *settings)
        if self.keep:
            self._kept[key] = part
        return part
