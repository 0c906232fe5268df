"""Configurations that transformers cannot read: in their authors' format, and translated by the family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PretrainedConfig
from vllm.transformers_utils.config_parser_base import ConfigParserBase


class FamilyConfig(ConfigParserBase):
    """Reads a folder's configuration as this project does."""

    def parse(
        self,
        model: str | Path,
        trust_remote_code: bool,  # noqa: ARG002
        revision: str | None = None,  # noqa: ARG002
        code_revision: str | None = None,  # noqa: ARG002
        **_: Any,
    ) -> tuple[dict[str, Any], PretrainedConfig]:
        """The configuration of a local folder, as entries and as transformers' object."""
        from ...models.families import open_family

        config = open_family(str(model)).config
        return config.to_dict(), config
