"""The loaded parts of models, shared by callers that handle many videos."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from ..families.base import Family
    from ..loading.runtime import ResolvedRuntime
    from .language_model import LanguageModel
    from .vision_encoder import VisionEncoder


Part = TypeVar("Part")


class ModelCache:
    """Loads each part of a model once.

    transformers is imported only when the first part is loaded.
    """

    def __init__(self) -> None:
        self._kept: dict[Any, Any] = {}

    def family(self, model: str, revision: str | None = None) -> Family:
        """The family object of a model name. Finding a checkpoint on the Hub may ask the network; here it does once."""
        if ("family", model, revision) not in self._kept:
            self._kept["family", model, revision] = _open_family(model, revision)
        family: Family = self._kept["family", model, revision]
        return family

    def vision_encoder(
        self, family: Family, runtime: ResolvedRuntime, evidence: frozenset[str] = frozenset()
    ) -> VisionEncoder:
        """The vision side of a model."""
        from .vision_encoder import VisionEncoder

        return self._get(VisionEncoder, family, runtime, evidence)

    def language_model(
        self, family: Family, runtime: ResolvedRuntime, layers: int | None = None, attention_rows: bool = False
    ) -> LanguageModel:
        """The LLM of a model, or its first `layers`; with `attention_rows`, to read attention."""
        from .language_model import LanguageModel

        return self._get(LanguageModel, family, runtime, layers, attention_rows)

    def _get(self, build: Callable[..., Part], family: Family, *settings: Any) -> Part:
        key = (build, family.checkpoint.local, *settings)
        if key not in self._kept:
            self._kept[key] = build(family, *settings)
        part: Part = self._kept[key]
        return part


class NoModelCache(ModelCache):
    """Loads a part every time it is asked for, and keeps nothing."""

    def family(self, model: str, revision: str | None = None) -> Family:
        """The family object of a model name."""
        return _open_family(model, revision)

    def _get(self, build: Callable[..., Part], family: Family, *settings: Any) -> Part:
        return build(family, *settings)


def _open_family(model: str, revision: str | None) -> Family:
    from ..families import open_family

    return open_family(model, revision)
