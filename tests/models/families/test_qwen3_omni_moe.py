"""Qwen3-Omni: what the tests of every family, and those of Qwen's videos, do not cover."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.families.qwen3_omni_moe import Qwen3OmniMoe
from stsimdiff_cli.models.inference.conversation import Conversation
from stsimdiff_cli.models.inference.language_model import LanguageModel
from tests.support.checkpoints.parts import QUESTIONS
from tests.support.checkpoints.qwen3_omni_moe import qwen3_omni_moe_checkpoint
from tests.support.runtimes import FP32
from tests.support.whole_models import preprocess, tokens_of, whole_model


@pytest.fixture(scope="module")
def omni(tmp_path_factory) -> Qwen3OmniMoe:
    return open_family(str(qwen3_omni_moe_checkpoint(tmp_path_factory.mktemp("omni") / "model")))


def test_times_are_fractions_of_a_position_as_in_generate(omni, frames):
    """0.7 s a slot are 9.1 positions; the next words stand a whole position after the last."""
    tokens = tokens_of(omni, frames)
    grid = replace(tokens.grid, period=0.7)
    language, model = LanguageModel(omni, FP32), whole_model(omni)
    prompt = language.prompter.prompt(language.model, grid, QUESTIONS[0], torch.arange(grid.tokens))
    times = prompt.positions[1, prompt.visual >= 0][:: grid.shape[1] * grid.shape[2]]
    torch.testing.assert_close(times - times[0], 9.1 * torch.arange(grid.shape[0]))
    conversation = Conversation(language, grid, tokens.embeddings, torch.arange(grid.tokens))
    said = set()
    for question in QUESTIONS:
        ids, _ = language.prompter.ids(grid, question)
        out = model.generate(
            input_ids=ids[None],
            attention_mask=torch.ones_like(ids)[None],
            **preprocess(omni, frames),
            video_second_per_grid=torch.tensor([0.7]),
            max_new_tokens=12,
            do_sample=False,
        )
        answer = conversation.ask(question, max_new_tokens=12).text
        assert answer == language.prompter.tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True)
        said.add(answer)
    assert len(said) > 1
