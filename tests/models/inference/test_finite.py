"""A model that computes NaN is an error with a sentence, never an empty answer."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from stsimdiff_cli.errors import ModelError
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.inference.conversation import Conversation, PrunedConversation
from stsimdiff_cli.models.inference.finite import not_finite
from stsimdiff_cli.models.inference.language_model import LanguageModel
from stsimdiff_cli.models.inference.vision_encoder import VisionEncoder
from tests.support.runtimes import FP32
from tests.support.whole_models import tokens_of


def with_nan(checkpoint: Path, folder: Path, *parts: str) -> Path:
    """A copy in which every tensor with one of `parts` in its name is NaN."""
    shutil.copytree(checkpoint, folder)
    for path in folder.rglob("*.safetensors"):
        tensors = load_file(path)
        save_file(
            {name: t * float("nan") if any(part in name for part in parts) else t for name, t in tensors.items()},
            path,
            {"format": "pt"},
        )
    return folder


def test_nan_in_the_llm_is_an_error_at_the_first_token(checkpoint, family, frames, tmp_path):
    tokens = tokens_of(family, frames)
    broken = open_family(str(with_nan(checkpoint, tmp_path / "broken", "down_proj", "mlp.ff_out")))
    language = LanguageModel(broken, FP32, attention_rows=True)
    index, said = torch.arange(tokens.grid.tokens), []
    conversation = Conversation(language, tokens.grid, tokens.embeddings, index)
    with pytest.raises(ModelError, match=r"outputs .* are not numbers") as caught:
        conversation.ask("what happens ?", max_new_tokens=3, on_text=said.append)
    assert caught.value.hint and caught.value.exit_code == 1 and not said
    with pytest.raises(ModelError, match=r"attention weights .* are not numbers"):
        language.importance(tokens.grid, tokens.embeddings, index, "what happens ?", family.attention_layer(2))


def test_nan_in_the_vision_encoder_is_an_error(family, frames):
    encoder = VisionEncoder(family, FP32)
    with torch.no_grad():
        for parameter in encoder.model.parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(ModelError, match=r"features .* are not numbers"):
        encoder.encode(frames[:2])


def test_the_hint_says_which_precision_to_try(family):
    hints = [not_finite("The outputs", family.checkpoint, dtype).hint for dtype in (torch.float16, torch.bfloat16)]
    assert "bfloat16" in hints[0] and "float32" in hints[0] and "float32" in hints[1]
    assert "damaged" in not_finite("The outputs", family.checkpoint, torch.float32).hint


def test_nan_inside_the_llm_is_an_error_where_a_method_prunes_there(attentive, frames):
    from stsimdiff_cli.methods.spec import parse_method
    from stsimdiff_cli.ratio import parse_ratio

    tokens = tokens_of(attentive, frames)
    language = LanguageModel(attentive, FP32, attention_rows=True)
    with torch.no_grad():
        for name, parameter in language.model.named_parameters():
            if "down_proj" in name:
                parameter.fill_(float("nan"))
    method = parse_method("fastv")
    conversation = PrunedConversation(language, tokens, lambda: method.layer_pruner(tokens, parse_ratio("0.5")))
    with pytest.raises(ModelError, match="not numbers"):
        conversation.ask("what happens ?", max_new_tokens=2)
