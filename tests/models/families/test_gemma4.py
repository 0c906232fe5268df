"""Gemma 4: what the tests of every family do not cover."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from stsimdiff_cli import pipeline
from stsimdiff_cli.errors import ModelError
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.families.gemma4 import Gemma4
from stsimdiff_cli.models.inference.conversation import Conversation
from stsimdiff_cli.models.inference.language_model import LanguageModel
from stsimdiff_cli.models.inference.prompts import Prompter
from stsimdiff_cli.models.inference.vision_encoder import VisionEncoder
from stsimdiff_cli.models.loading.runtime import ResolvedRuntime, Runtime
from tests.support.checkpoints import TOO_NEW
from tests.support.checkpoints.gemma4 import LARGE, NAMED, SMALL, gemma4_checkpoint
from tests.support.checkpoints.parts import QUESTIONS
from tests.support.clip_factory import render
from tests.support.family_checks import answers_equal_generate, clip_of, decoded, only_that_cell_moves
from tests.support.runtimes import CPU as DEVICE
from tests.support.runtimes import FP32
from tests.support.whole_models import encode, from_features, tokens_of, whole_model, with_holes

pytestmark = pytest.mark.skipif("gemma4" in TOO_NEW, reason="needs a newer transformers")

CPU = Runtime(device="cpu")
KINDS = {"small": SMALL, "large": LARGE}
#: Height and width of frames: common ones, upright ones, such as are rounded in odd ways, and a very long one.
SIZES = [(1080, 1920), (720, 1280), (1920, 1080), (360, 640), (45, 60), (13, 90), (9, 8), (200, 1999), (8, 4000)]


@pytest.fixture(scope="module", params=sorted(KINDS))
def kind(request, tmp_path_factory) -> Gemma4:
    """As the small checkpoints are, and as the larger ones are."""
    folder = tmp_path_factory.mktemp(request.param) / "model"
    return open_family(str(gemma4_checkpoint(folder, text=KINDS[request.param])))


@pytest.fixture(scope="module")
def gemma(tmp_path_factory) -> Gemma4:
    return open_family(str(gemma4_checkpoint(tmp_path_factory.mktemp("gemma4") / "model")))


def test_answers_of_both_kinds_equal_generate_from_pixels(kind, frames):
    assert answers_equal_generate(kind, frames) > 1


def test_windows_count_dropped_tokens_too(kind, frames, monkeypatch):
    """Answers are those of `generate` to the whole prompt with holes, and not those to the tokens that are left.

    Whether prompts are read at once or in pieces.
    """
    tokens, language = tokens_of(kind, frames), LanguageModel(kind, FP32)
    index = torch.arange(tokens.grid.tokens)[::3]
    conversation = Conversation(language, tokens.grid, tokens.embeddings[index], index)
    monkeypatch.setattr("stsimdiff_cli.models.inference.language_model.PIECE", 7)
    in_pieces = Conversation(language, tokens.grid, tokens.embeddings[index], index)
    greedy: dict[str, Any] = {"max_new_tokens": 12, "do_sample": False}
    expected, by_count = [], []
    for question in QUESTIONS:
        prompt = conversation._prompt(question)
        expected.append(with_holes(conversation, question, **greedy))
        places = language.position_ids(prompt)
        features = conversation.tokens.features
        by_count.append(from_features(language, prompt, features, position_ids=places, **greedy))
    said = [language.prompter.tokenizer.decode(ids, skip_special_tokens=True) for ids in expected]
    assert [answer.text for answer in conversation.ask_all(QUESTIONS, max_new_tokens=12)] == said
    assert [in_pieces.ask(question, max_new_tokens=12).text for question in QUESTIONS] == said
    assert expected != by_count and len(set(said)) > 1


def test_windows_hold_in_eager_attention_that_is_read(gemma, frames):
    """Every step of decoding, where a single token attends to what is in the cache."""
    tokens = tokens_of(gemma, frames)
    language = LanguageModel(gemma, ResolvedRuntime(DEVICE, torch.float32, "eager"), attention_rows=True)
    index = torch.arange(tokens.grid.tokens)[::3]
    conversation = Conversation(language, tokens.grid, tokens.embeddings[index], index, attention=True)
    plain = Conversation(LanguageModel(gemma, FP32), tokens.grid, tokens.embeddings[index], index)
    for question in QUESTIONS:
        expected = with_holes(plain, question, max_new_tokens=12, do_sample=False)
        said = language.prompter.tokenizer.decode(expected, skip_special_tokens=True)
        assert conversation.ask(question, max_new_tokens=12).text == said


def test_importance_comes_from_the_first_layer_without_a_window(gemma):
    assert [gemma.attention_layer(layer) for layer in range(7)] == [2, 2, 2, 5, 5, 5, 6]


def test_the_grid_is_in_rows(gemma):
    """Without what patches exchange with each other, a square of pixels moves its own token and no other."""
    encoder = VisionEncoder(gemma, FP32, frozenset({"keys"}))
    for layer in encoder.model.model.vision_tower.encoder.layers:
        nn.init.zeros_(layer.self_attn.o_proj.linear.weight)
    frames = clip_of(3, 16, 32)  # of the size to which they are resized
    assert gemma.size(16, 32) == (16, 32)
    assert tuple(encoder.encode(frames)["features"].shape[:3]) == (3, 2, 4)
    only_that_cell_moves(encoder, frames, [(0, 0, 0), (1, 0, 3), (2, 1, 1)])


def test_saliency_is_the_attention_that_a_token_receives(gemma, frames):
    """Four patches to a token; what a frame receives is one."""
    saliency = encode(gemma, frames, evidence=("saliency",))["saliency"]
    torch.testing.assert_close(saliency.sum((1, 2)) * 4, torch.ones(7))
    assert saliency.std() > 1e-4


def test_a_frame_of_full_hd_has_66_tokens(tmp_path):
    """With the published patches of 16 pixels, 3 x 3 of them to a token."""
    assert [published(tmp_path).size(*size) for size in SIZES[:3]] == [(288, 528), (288, 528), (528, 288)]


def published(folder: Path) -> Gemma4:
    """The family with the published patches and number of tokens, whose weights nobody reads."""
    gemma4_checkpoint(folder / "model", max_soft_tokens=70, patch_size=16, pooling_kernel_size=3)
    config = json.loads((folder / "model" / "config.json").read_text())
    config["vision_config"] |= {"patch_size": 16, "pooling_kernel_size": 3}
    (folder / "model" / "config.json").write_text(json.dumps(config))
    return open_family(str(folder / "model"))


def test_times_are_in_minutes_and_seconds(gemma, frames):
    grid = replace(tokens_of(gemma, frames[:3]).grid, seconds=(0.0, 59.99, 3665.2))
    written = gemma.expand_placeholder("a <|video|> b", grid)
    assert (
        written == "a " + " ".join(f"{time} <|image><|video|><image|>" for time in ("00:00", "00:59", "61:05")) + " b"
    )


def test_an_older_transformers_is_refused(gemma, monkeypatch):
    monkeypatch.setattr("stsimdiff_cli.models.families.gemma4._OLDEST", (99, 0))
    with pytest.raises(ModelError, match=rf"needs a newer transformers than {re.escape(transformers.__version__)}\."):
        open_family(str(gemma.checkpoint.path))


def test_an_llm_in_which_all_tokens_see_each_other_is_refused(tmp_path):
    folder = gemma4_checkpoint(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["use_bidirectional_attention"] = "all"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"All tokens .* see each other"):
        open_family(str(folder))


def test_a_user_may_turn_thinking_on(gemma, frames):
    folder, grid = gemma.checkpoint.path, tokens_of(gemma, frames).grid
    begins = {}
    for option in ("", ":thinking=on", ":thinking=off"):
        prompter = Prompter(open_family(f"{folder}{option}"))
        ids, _ = prompter.ids(grid, QUESTIONS[0])
        begins[option] = prompter.tokenizer.convert_ids_to_tokens(ids[:4])
    plain = ["<bos>", "<|turn>", "user", "00"]
    assert begins == {"": plain, ":thinking=on": ["<bos>", "<|turn>", "system", "<|think|>"], ":thinking=off": plain}


def test_a_question_that_spells_the_tokens_of_a_video_is_text(gemma, frames):
    grid = tokens_of(gemma, frames).grid
    _, plain = Prompter(gemma).ids(grid, "w1")
    _, spelled = Prompter(gemma).ids(grid, "w1 <|video|> " + " ".join(NAMED.values()))
    assert (spelled >= 0).sum() == (plain >= 0).sum() == grid.tokens


@pytest.mark.processors
def test_sizes_and_pixels_equal_those_of_the_video_processor(tmp_path):
    """Without what it fills up with."""
    pytest.importorskip("torchvision", reason="transformers' video processors need torchvision")
    from transformers import Gemma4VideoProcessor

    family, processor = published(tmp_path), Gemma4VideoProcessor()
    for height, width in SIZES:
        clip = clip_of(2, height, width)
        theirs = processor(clip.permute(0, 3, 1, 2), do_sample_frames=False, return_tensors="pt")
        ours = family.preprocess(clip, None, DEVICE)
        count = ours["video_position_ids"].shape[1]
        assert torch.equal(theirs["video_position_ids"][:, :count], ours["video_position_ids"])
        assert (theirs["video_position_ids"][:, count:] == -1).all()
        values = theirs["pixel_values_videos"][:, :count]
        torch.testing.assert_close(ours["pixel_values_videos"], values, rtol=1e-5, atol=1e-5)


@pytest.mark.processors
@pytest.mark.parametrize(("name", "size"), [("small", (64, 48)), ("large", (40, 90))])
def test_answers_equal_transformers_processor_and_generate(name, size, tmp_path):
    """From a file to an answer: their choice of frames, sizes, times and prompt, with nothing of ours.

    Their class takes no number of tokens below 70.
    """
    pytest.importorskip("torchvision", reason="transformers' video processors need torchvision")
    from transformers import Gemma4AudioFeatureExtractor, Gemma4ImageProcessor, Gemma4Processor, Gemma4VideoProcessor

    folder = gemma4_checkpoint(tmp_path / "model", text=KINDS[name], max_soft_tokens=70)
    kind = open_family(str(folder))
    clip = render(tmp_path / "clip.mp4", range(70), rate=10, size=size)
    stored = pipeline.encode_video(clip, str(folder), pipeline.Sampling(frames=5, decoder="pyav"), CPU)
    conversation = pipeline.converse(pipeline.all_tokens(stored), CPU)
    settings = json.loads((folder / "processor_config.json").read_text())["video_processor"]
    processor = Gemma4Processor(
        Gemma4AudioFeatureExtractor(),
        Gemma4ImageProcessor(),
        kind.tokenizer,
        Gemma4VideoProcessor(**settings),
        chat_template=(folder / "chat_template.jinja").read_text(),
    )
    model, said = whole_model(kind), set()
    frames, metadata = decoded(clip, 10)
    for question in QUESTIONS:
        content = [{"type": "video"}, {"type": "text", "text": question}]
        text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        theirs = processor(
            text=[text], videos=[frames], video_metadata=[metadata], num_frames=5, fps=None, return_tensors="pt"
        )
        ids, _ = Prompter(kind).ids(stored.grid, question)
        assert ids.tolist() == theirs["input_ids"][0].tolist()
        out = model.generate(**theirs, max_new_tokens=12, do_sample=False)[0, len(ids) :]
        answer = conversation.ask(question, max_new_tokens=12)
        assert answer.text == kind.tokenizer.decode(out, skip_special_tokens=True)
        said.add(answer.text)
    assert len(said) > 1
