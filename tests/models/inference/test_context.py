"""What does not fit into the LLM's positions: a warning when it is encoded, a refusal when it is asked about."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from stsimdiff_cli.errors import RequestError
from stsimdiff_cli.methods.spec import parse_method
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.inference.conversation import Conversation, PrunedConversation
from stsimdiff_cli.models.inference.language_model import LanguageModel
from stsimdiff_cli.models.loading.random_weights import write_dummy
from stsimdiff_cli.ratio import parse_ratio
from tests.support.checkpoints import CHECKPOINTS
from tests.support.checkpoints.parts import QUESTIONS
from tests.support.clip_factory import render
from tests.support.commands import refused, run
from tests.support.runtimes import FP32
from tests.support.whole_models import tokens_of


def small(folder: Path, name: str, positions: int) -> Path:
    """A checkpoint whose LLM has few positions."""
    CHECKPOINTS[name](folder)
    config = json.loads((folder / "config.json").read_text())
    config.get("text_config", config)["max_position_embeddings"] = positions
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_kept_tokens_and_question_must_fit_to_the_last_token(frames, tmp_path):
    family = open_family(str(small(tmp_path / "model", "qwen2_5_vl", 60)))
    tokens, language = tokens_of(family, frames), LanguageModel(family, FP32)
    words = len(language.prompter.ids(tokens.grid, QUESTIONS[0])[0]) - tokens.grid.tokens
    assert tokens.grid.tokens > 60 > words
    index = torch.arange(60 - words)
    conversation = Conversation(language, tokens.grid, tokens.embeddings[index], index)
    assert conversation.ask(QUESTIONS[0], max_new_tokens=2).prompt_tokens == 60
    with pytest.raises(RequestError, match=f"{60 - words} visual tokens and {words + 1} of text are more than the 60"):
        conversation.ask(QUESTIONS[0] + " w1", max_new_tokens=2)
    with pytest.raises(RequestError, match="60 positions") as error:
        Conversation(language, tokens.grid, tokens.embeddings, torch.arange(tokens.grid.tokens))
    assert "--ratio" in str(error.value.hint)
    method = parse_method("fastv")
    pruned = PrunedConversation(language, tokens, lambda: method.layer_pruner(tokens, parse_ratio("0.1")))
    with pytest.raises(RequestError, match="60 positions"):  # all tokens enter the first layer
        pruned.ask(QUESTIONS[0])


def test_a_model_of_noise_takes_prompts_of_any_length(tmp_path):
    assert open_family(str(write_dummy(tmp_path / "model", "llava-video-7b"))).context is None


def test_encode_warns_and_ask_refuses(capsys, tmp_path):
    clip, model = render(tmp_path / "clip.mp4", range(12)), small(tmp_path / "model", "llava_onevision", 150)
    tokens, kept = tmp_path / "t.safetensors", tmp_path / "k.safetensors"
    code, out, err = run(capsys, "encode", clip, "-o", tokens, "--model", model, "--frames", 12)
    count = int(out.split(": ")[1].split()[0])
    assert code == 0 and count > 150
    assert f"{count:,} tokens are more than the 150 positions" in " ".join(err.split()) and "--ratio" in err
    text = " ".join(refused(capsys, "ask", tokens, QUESTIONS[0]).split())
    assert "visual tokens" in text and "more than the 150 positions" in text and "lower --ratio" in text
    assert run(capsys, "compress", tokens, "-o", kept, "--ratio", "0.3", "--method", "uniform")[0] == 0
    code, out, err = run(capsys, "ask", kept, QUESTIONS[0], "--max-new-tokens", 2)
    assert code == 0 and "stand at positions up to" in " ".join(err.split())
    code, _, err = run(capsys, "encode", clip, "-o", tmp_path / "few", "--model", model, "--frames", 2)
    assert code == 0 and "positions" not in err
