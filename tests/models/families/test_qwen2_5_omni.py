"""Qwen2.5-Omni: what the tests of every family, and those of Qwen's videos, do not cover."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from stsimdiff_cli.cli.app import main
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.families.qwen2_5_omni import Qwen25Omni
from stsimdiff_cli.models.inference.language_model import LanguageModel
from stsimdiff_cli.models.loading.weights import load_language, load_vision
from tests.support.checkpoints import TOO_NEW
from tests.support.checkpoints.parts import QUESTIONS
from tests.support.checkpoints.qwen2_5_omni import qwen2_5_omni_checkpoint
from tests.support.clip_factory import render
from tests.support.runtimes import FP32
from tests.support.whole_models import SPACING, tokens_of

pytestmark = pytest.mark.skipif("qwen2_5_omni" in TOO_NEW, reason="needs a newer transformers")


@pytest.fixture(scope="module")
def omni(tmp_path_factory) -> Qwen25Omni:
    return open_family(str(qwen2_5_omni_checkpoint(tmp_path_factory.mktemp("omni") / "model")))


def test_neither_the_encoder_of_sound_nor_the_talker_is_loaded(omni):
    stored = [name for file in omni.checkpoint.weight_files() for name in load_file(file)]
    assert any("audio_tower" in name for name in stored) and any(name.startswith("talker") for name in stored)
    for load in (load_vision, load_language):
        names = [name for name, _ in load(omni, FP32).named_parameters()]
        assert names and not any("audio" in name or "talker" in name for name in names)


def test_a_second_of_video_is_25_time_positions(omni, frames):
    grid = tokens_of(omni, frames).grid
    language = LanguageModel(omni, FP32)
    prompt = language.prompter.prompt(language.model, grid, QUESTIONS[0], torch.arange(grid.tokens))
    times = prompt.positions[1, prompt.visual >= 0][:: grid.shape[1] * grid.shape[2]]
    assert (times - times[0]).tolist() == [int(25 * SPACING * slot) for slot in range(grid.shape[0])]


def test_from_a_video_to_an_answer_on_the_command_line(omni, tmp_path, capsys):
    clip = render(tmp_path / "clip.mp4", range(12))
    tokens, kept = str(tmp_path / "tokens.safetensors"), str(tmp_path / "kept.safetensors")
    model = str(omni.checkpoint.path)
    assert main(["encode", str(clip), "--model", model, "--frames", "5", "-o", tokens, "--device", "cpu"]) == 0
    assert main(["compress", tokens, "-o", kept, "--ratio", "0.4", "--device", "cpu"]) == 0
    capsys.readouterr()
    assert main(["ask", kept, QUESTIONS[0], "--max-new-tokens", "4", "--device", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answers"]
