"""How vLLM is told to serve a checkpoint with the plug-in."""

from __future__ import annotations

from typing import Any

from ...errors import RequestError
from ...models.families.base import Family
from . import CLASSES, architecture


def arguments(family: Family, dtype: str = "auto") -> dict[str, Any]:
    """Arguments of vLLM's engine, by the names that Python and, with dashes, its command line use.

    RequestError for a family that the plug-in does not serve.
    """
    if family.name not in CLASSES:
        raise RequestError(
            f"{family.checkpoint.id} is of the family {family.name}, which cannot be served with vLLM yet.",
            f"These can: {', '.join(CLASSES)}. Others answer with `stsimdiff ask`.",
        )
    return {
        "model": str(family.checkpoint.path),
        "dtype": dtype,
        "hf_overrides": {"architectures": [architecture(family.name)], **_sections(family)},
        "limit_mm_per_prompt": {"video": 8},
        "skip_mm_profiling": True,
    }


def _sections(family: Family) -> dict[str, Any]:
    """What has to be said otherwise about the rotary embedding, so that vLLM takes three positions a token.

    An LLM whose positions are single numbers gets three sections, in any proportion. Sections of one frequency each, as
    in the embedded models, are what vLLM calls interleaved.
    """
    text = family.config.get_text_config()
    rope = dict(text.rope_parameters)
    section = rope.get("mrope_section")
    half = (getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads) // 2
    if section is None:
        rope["mrope_section"] = [half - 2 * (half // 3), half // 3, half // 3]
    elif len(section) == half and len(section) % 3 == 0 and set(section) == {1} and len(section) > 3:
        rope |= {"mrope_section": [half // 3] * 3, "mrope_interleaved": True}
    else:
        return {}
    return {"text_config": {"rope_parameters": rope}}
