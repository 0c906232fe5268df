"""Families that transformers has and this package refuses: that they are, and that the reasons given are so."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import (
    Gemma4UnifiedConfig,
    Gemma4UnifiedForConditionalGeneration,
    Molmo2Config,
    Molmo2ForConditionalGeneration,
)

from stsimdiff_cli.errors import RequestError
from stsimdiff_cli.models.families import open_family


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [("gemma4_unified", "no vision encoder"), ("molmo2", "see each other"), ("perception_lm", "timm")],
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


def test_tokens_of_frames_of_molmo_2_see_later_frames():
    """A token of the first frame changes with the last one, as no reading from left to right could let it."""
    text = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 32}
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    heads = {"num_key_value_heads": 2, "head_dim": 8}
    adapter = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16, "text_hidden_size": 32}
    config = Molmo2Config(
        text_config={
            **text,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "initializer_range": 0.3,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
        },
        vision_config={**vision, **heads, "image_size": [28, 28]},
        adapter_config={**adapter, **heads, "vision_feature_layer": [0]},
        image_patch_id=7,
    )
    torch.manual_seed(0)
    model = Molmo2ForConditionalGeneration(config).eval()
    of_frames = torch.tensor([[0, 1, 1, 0, 1, 1, 0]])  # words, a frame, its time, a frame, words
    states = torch.randn(1, 7, 32)
    other = states.clone()
    other[0, 5] += 1
    with torch.inference_mode():
        one, two = (
            model.model(inputs_embeds=x, mm_token_type_ids=of_frames).last_hidden_state[0] for x in (states, other)
        )
    moved = (one - two).abs().amax(-1) > 1e-4
    assert moved.tolist() == [False, True, True, True, True, True, True]
