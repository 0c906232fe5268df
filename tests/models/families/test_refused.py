"""Families that transformers has and this package refuses: that they are, and that the reasons given are so."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import Gemma4UnifiedConfig, Gemma4UnifiedForConditionalGeneration

from stsimdiff_cli.errors import RequestError
from stsimdiff_cli.models.families import open_family


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [("gemma4_unified", "no vision encoder"), ("perception_lm", "timm")],
)
def test_they_are_refused_with_the_reason(model_type, reason, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, "architectures": ["Own"]}))
    with pytest.raises(RequestError, match=f"not supported.*{reason}") as error:
        open_family(str(tmp_path))
    assert "Supported types" in str(error.value.hint)


def test_gemma_4_unified_has_no_attention_outside_of_its_llm():
    text = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 16}
    with torch.device("meta"):
        model = Gemma4UnifiedForConditionalGeneration(Gemma4UnifiedConfig(text_config=text))
    attention = {name.partition(".layers.")[0] for name, _ in model.named_modules() if name.endswith("attn")}
    assert attention == {"model.language_model"}
