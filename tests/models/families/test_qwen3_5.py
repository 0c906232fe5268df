"""Qwen3.5: what the tests of every family do not cover."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from stsimdiff_cli import pipeline
from stsimdiff_cli.errors import ModelError, RequestError
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.families.qwen3_5 import Qwen35
from stsimdiff_cli.models.inference.conversation import Conversation
from stsimdiff_cli.models.inference.language_model import LanguageModel
from stsimdiff_cli.models.inference.prompts import Prompter
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.records import VideoTokens
from tests.support.checkpoints import CHECKPOINTS
from tests.support.checkpoints.parts import QUESTIONS
from tests.support.clip_factory import render
from tests.support.family_checks import decoded
from tests.support.runtimes import FP32
from tests.support.whole_models import tokens_of, whole_model

CPU = Runtime(device="cpu")


@pytest.fixture(scope="module")
def qwen(tmp_path_factory) -> Qwen35:
    return open_family(str(CHECKPOINTS["qwen3_5"](tmp_path_factory.mktemp("qwen3_5") / "model")))


@pytest.fixture
def tokens(qwen, frames) -> VideoTokens:
    return tokens_of(qwen, frames)


def test_methods_inside_the_llm_are_refused_with_the_reason(tokens):
    conversation = pipeline.converse_inside(tokens, "0.4", "fastv", CPU)
    with pytest.raises(ModelError, match="layers of type full_attention, linear_attention") as error:
        conversation.ask(QUESTIONS[0], max_new_tokens=2)
    assert "Compress first" in str(error.value.hint)


def test_importance_comes_from_the_first_layer_with_attention(qwen, tokens):
    """Layers 1 and 3 have attention weights."""
    kept = {
        layer: pipeline.compress_tokens(tokens, "0.3", f"st-simdiff:tau_sim=0.95,layer={layer}", CPU).importance
        for layer in range(4)
    }
    assert torch.equal(kept[0], kept[1]) and torch.equal(kept[2], kept[3]) and not torch.equal(kept[1], kept[3])
    assert [qwen.attention_layer(layer) for layer in range(5)] == [1, 1, 3, 3, 4]
    with pytest.raises(RequestError, match="has 4 layers"):
        pipeline.compress_tokens(tokens, "0.3", "st-simdiff:tau_sim=0.95,layer=4", CPU)


def test_answers_do_not_depend_on_how_long_the_ones_before_them_were(qwen, tokens):
    """The states of linear attention are put back, not only keys and values."""
    language = LanguageModel(qwen, FP32)
    index = torch.arange(tokens.grid.tokens)[::2]
    said = []
    for lengths in ((1, 12), (9, 12)):
        conversation = Conversation(language, tokens.grid, tokens.embeddings[index], index)
        said.append([conversation.ask(QUESTIONS[0], max_new_tokens=length).text for length in lengths][-1])
    assert said[0] == said[1]


def test_a_user_may_turn_thinking_off(qwen, tokens):
    """As the published template, the small one begins a thought, and ends it at once if there is to be none."""
    folder = qwen.checkpoint.path
    ends = {}
    for option in ("", ":thinking=on", ":thinking=off"):
        prompter = Prompter(open_family(f"{folder}{option}"))
        ids, _ = prompter.ids(tokens.grid, QUESTIONS[0])
        ends[option] = prompter.tokenizer.decode(ids).rpartition("assistant\n")[2]
    assert ends == {"": "<think>", ":thinking=on": "<think>", ":thinking=off": "<think></think>"}
    with pytest.raises(RequestError, match="no option thinking=maybe"):
        open_family(f"{folder}:thinking=maybe")


@pytest.mark.processors
@pytest.mark.parametrize("name", ["qwen3_5", "qwen3_5_moe"])
def test_answers_equal_transformers_processor_and_generate(name, tmp_path):
    """From a file to an answer: their choice of frames, sizes, prompt and times, with nothing of ours."""
    pytest.importorskip("torchvision", reason="transformers' video processors need torchvision")
    from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

    folder: Path = CHECKPOINTS[name](tmp_path / "model")
    family = open_family(str(folder))
    clip = render(tmp_path / "clip.mp4", range(40), rate=10)
    stored = pipeline.encode_video(clip, str(folder), pipeline.Sampling(frames=8, decoder="pyav"), CPU)
    conversation = pipeline.converse(pipeline.all_tokens(stored), CPU)
    settings = json.loads((folder / "video_preprocessor_config.json").read_text())
    tokenizer = family.tokenizer
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessor(**settings),
        tokenizer,
        Qwen3VLVideoProcessor(**settings),
        chat_template=json.loads((folder / "chat_template.json").read_text())["chat_template"],
    )
    model, said = whole_model(family), set()
    frames, metadata = decoded(clip, 10)
    for question in QUESTIONS:
        content = [{"type": "video"}, {"type": "text", "text": question}]
        text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        theirs = processor(
            text=[text], videos=[frames], video_metadata=[metadata], num_frames=8, fps=None, return_tensors="pt"
        )
        out = model.generate(**theirs, max_new_tokens=12, do_sample=False)[0, theirs["input_ids"].shape[1] :]
        answer = conversation.ask(question, max_new_tokens=12)
        assert answer.prompt_tokens == theirs["input_ids"].shape[1]
        assert answer.text == tokenizer.decode(out, skip_special_tokens=True)
        said.add(answer.text)
    assert len(said) > 1
