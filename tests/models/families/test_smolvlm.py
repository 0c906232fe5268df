"""SmolVLM2 on a tiny checkpoint: its words, its squares and its pixel shuffle, against transformers' own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers.models.smolvlm import processing_smolvlm
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from stsimdiff_cli.methods import METHODS
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.families.base import Family
from stsimdiff_cli.models.families.smolvlm import in_words
from stsimdiff_cli.models.inference.conversation import Conversation
from stsimdiff_cli.models.inference.language_model import LanguageModel
from stsimdiff_cli.models.inference.prompts import Prompter
from stsimdiff_cli.models.inference.vision_encoder import VisionEncoder
from stsimdiff_cli.records import TokenGrid
from tests.support.checkpoints.parts import QUESTIONS
from tests.support.checkpoints.smolvlm import smolvlm_checkpoint
from tests.support.family_checks import a_method_keeps_its_budget, clip_of, dummy_of
from tests.support.runtimes import FP32
from tests.support.whole_models import encode, grid_of, preprocess, tokens_of, whole_model

EVIDENCE = ("saliency", "keys")
FRAME = "<fake_token_around_image><global-img>" + "<image>" * 9 + "<fake_token_around_image>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return smolvlm_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def smol(folder) -> Family:
    return open_family(str(folder))


def with_settings(folder: Path, **changes) -> Family:
    """A checkpoint with other preprocessor settings; None takes one away."""
    file = smolvlm_checkpoint(folder) / "preprocessor_config.json"
    settings = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({name: value for name, value in settings.items() if value is not None}))
    return open_family(str(folder))


def timed(family: Family, seconds: tuple[float, ...], duration: float) -> TokenGrid:
    """The grid of a video with frames at those seconds."""
    grid = grid_of(family, torch.zeros(len(seconds), 3, 3, 48))
    return replace(grid, seconds=seconds, source=replace(grid.source, seconds=duration))


# --- the prompt -----------------------------------------------------------------------------------------------------


def test_the_prompt_is_written_as_published(smol):
    text = (
        "<|im_start|>User: You are provided the following series of three frames from a 0:01:15 [H:MM:SS] video.\n"
        f"\nFrame from 00:00:{FRAME}\nFrame from 00:59:{FRAME}\nFrame from 01:05:{FRAME}\n\n"
        "What happens?<end_of_utterance>\nAssistant:"
    )
    prompter = Prompter(smol)
    ids, visual = prompter.ids(timed(smol, (0.04, 59.99, 65.0), 75.9), "What happens?")
    assert ids.tolist() == prompter.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert visual[visual >= 0].tolist() == list(range(27))
    assert torch.equal(ids == smol.placeholder, visual >= 0)
    whole, apart = (prompter.tokenizer(text)["input_ids"] for text in ("User: You", "User: "))
    assert whole[: len(apart)] != apart, "words that do not merge at the borders prove nothing"


@pytest.mark.skipif(
    not hasattr(processing_smolvlm.SmolVLMProcessor, "replace_video_token"), reason="an older transformers"
)
@pytest.mark.parametrize("count", [1, 3, 20, 121])
def test_the_prompt_is_that_of_transformers_processor(count, smol, monkeypatch):
    """Its own method and template; only the numbers in words are ours where num2words is not installed."""
    if processing_smolvlm.num2words is None:
        monkeypatch.setattr(processing_smolvlm, "num2words", in_words)
    seconds = tuple(1.75 * i for i in range(count))
    settings = SimpleNamespace(
        image_seq_len=9,
        image_token="<image>",
        fake_image_token="<fake_token_around_image>",
        global_image_token="<global-img>",
    )
    inputs = {
        "pixel_values": torch.zeros(1, count, 3, 24, 24),
        "video_metadata": [SimpleNamespace(fps=24, timestamps=list(seconds), duration=3723.5)],
    }
    video = processing_smolvlm.SmolVLMProcessor.replace_video_token(settings, inputs, 0)
    prompter = Prompter(smol)
    for question in ("What happens?", "\n two blank lines", "Why do 12 dogs run?"):
        content = [{"type": "video"}, {"type": "text", "text": question}]
        text = prompter.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}],
            chat_template=processing_smolvlm.DEFAULT_CHAT_TEMPLATE,
            add_generation_prompt=True,
            tokenize=False,
        )
        expected = prompter.tokenizer(text.replace("<video>", video), add_special_tokens=False)["input_ids"]
        assert prompter.ids(timed(smol, seconds, 3723.5), question)[0].tolist() == expected


def test_numbers_in_words():
    words = {
        0: "zero", 1: "one", 12: "twelve", 19: "nineteen", 20: "twenty", 42: "forty-two", 64: "sixty-four",
        100: "one hundred", 101: "one hundred and one", 345: "three hundred and forty-five", 1000: "one thousand",
        1001: "one thousand and one", 1100: "one thousand, one hundred",
        21_916: "twenty-one thousand, nine hundred and sixteen",
    }  # fmt: skip
    assert {number: in_words(number) for number in words} == words


def test_numbers_in_words_are_those_of_num2words():
    num2words = pytest.importorskip("num2words").num2words
    for number in [*range(1300), 9_999, 10_000, 54_321, 100_001, 999_999]:
        assert in_words(number) == num2words(number)


# --- answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(7, 45, 60), (1, 33, 51), (3, 71, 40), (2, 24, 24), (2, 11, 90)])
def test_at_ratio_one_answers_equal_generate_from_pixels_token_for_token(size, smol):
    frames = clip_of(*size)
    language, model = LanguageModel(smol, FP32), whole_model(smol)
    tokens = tokens_of(smol, frames, chunk=2)
    grid = tokens.grid
    assert grid.shape == (size[0], 3, 3)
    conversation = Conversation(language, grid, tokens.embeddings, torch.arange(grid.tokens))
    seen = set()
    for question in [*QUESTIONS, "Where?", "You are"]:
        ids, _ = language.prompter.ids(grid, question)
        out = model.generate(
            input_ids=ids[None],
            attention_mask=torch.ones_like(ids)[None],
            **preprocess(smol, frames),
            max_new_tokens=12,
            do_sample=False,
        )
        expected = out[0, len(ids) :].tolist()
        answer = conversation.ask(question, max_new_tokens=12)
        assert answer.text == language.prompter.tokenizer.decode(expected, skip_special_tokens=True)
        assert answer.tokens == len(expected)
        seen.add(answer.text)
    assert len(seen) > 1, "a random model that always says the same proves nothing"


# --- preprocessing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("edge", [96, 30, 24])
@pytest.mark.parametrize("size", [(45, 60), (60, 45), (33, 51), (71, 40), (24, 24), (10, 13), (3, 300), (360, 641)])
def test_pixels_equal_transformers_pil_processor(size, edge, tmp_path):
    """The image processor without splitting makes the squares that the video processor makes.

    Pictures are smooth: where filters overshoot, PIL and torch (so torchvision too) cut off in another order.
    """
    from PIL import Image

    family = with_settings(tmp_path, size={"longest_edge": edge})
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text())
    del settings["video_sampling"]
    processor = SmolVLMImageProcessorPil(**settings | {"do_image_splitting": False})
    frames = clip_of(2, *size)
    expected = processor([[Image.fromarray(frame.numpy()) for frame in frames]], return_tensors="pt")["pixel_values"]
    got = preprocess(family, frames)["pixel_values"]
    assert got.shape == expected.shape == (1, 2, 3, 24, 24)
    steps = (got - expected).abs() * 0.5 * 255  # in 8-bit levels
    assert steps.max() < 3.1 and steps.mean() < 0.2


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (1080, 1920, (288, 512)),
        (1920, 1080, (512, 288)),
        (300, 301, (510, 512)),
        (7, 1000, (4, 512)),
        (1, 5000, (1, 512)),
    ],
)
def test_the_first_size_keeps_the_longer_edge_and_makes_the_other_even(height, width, expected, tmp_path):
    family = with_settings(tmp_path, size=None, video_sampling={"video_size": {"longest_edge": 512}})
    assert family.size(height, width) == expected


def test_a_size_for_images_goes_before_one_for_videos_and_none_exceeds_4096(tmp_path):
    family = with_settings(tmp_path, size={"longest_edge": 5000})
    assert family.size(50, 100) == (2048, 4096)


# --- the encoder ----------------------------------------------------------------------------------------------------


def test_evidence_is_that_of_the_last_layer_shuffled_like_the_features(smol):
    frames = clip_of(3, 45, 60)
    got = encode(smol, frames, evidence=EVIDENCE)
    eager = whole_model(smol, "eager").model
    with torch.inference_mode():
        pixels = preprocess(smol, frames)["pixel_values"]
        out = eager.vision_model(pixels[0], output_attentions=True, output_hidden_states=True)

        def shuffled(x: torch.Tensor) -> torch.Tensor:
            return eager.connector.pixel_shuffle(x, 2).unflatten(-1, (4, -1)).mean(-2).unflatten(1, (3, 3))

        layer = eager.vision_model.encoder.layers[-1]
        keys = layer.self_attn.k_proj(layer.layer_norm1(out.hidden_states[-2]))  # the input of that layer
        received = out.attentions[-1].mean((1, 2))  # (n, 36)
        torch.testing.assert_close(got["saliency"], shuffled(received[..., None])[..., 0], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(got["keys"].flatten(3), shuffled(keys), rtol=1e-4, atol=1e-4)
        features = torch.cat(list(eager.get_image_features(pixels, return_dict=True).pooler_output))
        torch.testing.assert_close(got["features"].flatten(0, 2), features, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(got["saliency"].sum((1, 2)) * 4, torch.ones(3))


@pytest.mark.parametrize("cell", [(0, 0), (0, 2), (1, 2), (2, 0)])
def test_a_change_in_one_cell_moves_that_cell_alone(cell, tmp_path):
    """With every encoder layer an identity, features and keys are functions of the cell's own pixels."""
    family = with_settings(tmp_path, size={"longest_edge": 24})
    encoder = VisionEncoder(family, FP32, evidence=frozenset(EVIDENCE))
    for layer in encoder.model.model.vision_model.encoder.layers:
        for part in (layer.self_attn.out_proj, layer.mlp.fc2):
            torch.nn.init.zeros_(part.weight)
            torch.nn.init.zeros_(part.bias)
    frames = clip_of(2, 24, 24)
    changed = frames.clone()
    row, column = (8 * place for place in cell)
    changed[1, row : row + 8, column : column + 8] = 255 - changed[1, row : row + 8, column : column + 8]
    before, after = encoder.encode(frames), encoder.encode(changed)
    for name in ("features", "keys"):
        moved = (before[name] - after[name]).flatten(3).abs().amax(-1) > 1e-4
        assert moved.nonzero().tolist() == [[1, *cell]]


def test_a_frame_of_zeros_is_a_frame(tmp_path):
    """transformers takes images of zeros for padding and leaves them out."""
    family = with_settings(tmp_path, do_normalize=False)
    frames = clip_of(3, 24, 24)
    frames[1] = 0
    assert encode(family, frames)["features"].shape == (3, 3, 3, 48)


# --- the methods ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_keeps_exactly_its_budget_of_a_video(name, smol):
    a_method_keeps_its_budget(name, smol, clip_of(5, 71, 40), "Why?")


@pytest.mark.parametrize(("image", "patch", "scale", "side"), [(512, 16, 4, 8), (384, 14, 3, 9)])
def test_at_the_published_sizes_a_frame_is_64_or_81_tokens(image, patch, scale, side, tmp_path):
    edges = {"size": {"longest_edge": 4 * image}, "max_image_size": {"longest_edge": image}}
    vision = {"image_size": image, "patch_size": patch}
    family = dummy_of(smolvlm_checkpoint(tmp_path), vision, edges, scale_factor=scale)
    got = encode(family, clip_of(2, 90, 160), evidence=EVIDENCE)
    assert got["features"].shape[:3] == got["keys"].shape[:3] == got["saliency"].shape == (2, side, side)
