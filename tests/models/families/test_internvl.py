"""InternVL: what the tests of every family do not cover."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.families.internvl import InternVL
from stsimdiff_cli.models.families.preprocess import CLIP, video_settings
from stsimdiff_cli.models.inference.conversation import Conversation
from stsimdiff_cli.models.inference.language_model import LanguageModel
from stsimdiff_cli.models.inference.prompts import Prompter
from stsimdiff_cli.models.inference.vision_encoder import VisionEncoder
from stsimdiff_cli.models.loading.weights import load_language, load_vision
from tests.support.checkpoints.internvl import INTERNVL_VOCABULARY, internvl_checkpoint
from tests.support.checkpoints.parts import QUESTIONS
from tests.support.family_checks import (
    CLIPS,
    answers_equal_generate,
    dropping_equals_masking,
    only_that_cell_moves,
    resized,
)
from tests.support.runtimes import FP32
from tests.support.whole_models import encode, grid_of, preprocess, tokens_of, whole_model

#: The encoders of the small and of the large models: InternViT-300M, and InternViT-6B with normalised keys.
ENCODERS = {"300M": {}, "6B": {"use_qk_norm": True, "norm_type": "rms_norm", "attention_bias": False}}
QWEN3 = {"model_type": "qwen3", "head_dim": 12}  # InternVL 3.5


@pytest.fixture(scope="module")
def intern(tmp_path_factory) -> InternVL:
    return open_family(str(internvl_checkpoint(tmp_path_factory.mktemp("internvl") / "model")))


@pytest.fixture(scope="module", params=sorted(ENCODERS))
def either(request, tmp_path_factory) -> InternVL:
    folder = tmp_path_factory.mktemp("internvl")
    return open_family(str(internvl_checkpoint(folder / request.param, vision=ENCODERS[request.param])))


@pytest.mark.parametrize(("count", "height", "width"), CLIPS)
def test_at_ratio_one_answers_equal_generate_for_odd_sizes_and_few_frames(either, frames, count, height, width):
    assert answers_equal_generate(either, resized(frames, count, height, width)) > 1


@pytest.fixture(scope="module")
def newer(tmp_path_factory) -> InternVL:
    """InternVL 3.5, which has another LLM."""
    return open_family(str(internvl_checkpoint(tmp_path_factory.mktemp("internvl") / "newer", text=QWEN3)))


def test_at_ratio_one_answers_equal_generate_with_another_llm(newer, frames):
    assert answers_equal_generate(newer, frames) > 1


def test_dropping_tokens_equals_masking_them_out_with_another_llm(newer, frames):
    dropping_equals_masking(newer, frames)


@pytest.mark.processors
@pytest.mark.parametrize("name", ["intern", "newer"])
def test_answers_equal_transformers_processor_and_generate(name, request, frames):
    """Their prompt and their pixels, with nothing of ours."""
    pytest.importorskip("torchvision", reason="transformers' video processors need torchvision")
    from transformers import GotOcr2ImageProcessor, InternVLProcessor, InternVLVideoProcessor

    family = request.getfixturevalue(name)
    language, tokens = LanguageModel(family, FP32), tokens_of(family, frames)
    conversation = Conversation(language, tokens.grid, tokens.embeddings, torch.arange(tokens.grid.tokens))
    known = {k: v for k, v in family._settings.items() if k not in ("image_processor_type", "crop_to_patches")}
    processor = InternVLProcessor(
        GotOcr2ImageProcessor(**known),
        language.prompter.tokenizer,
        InternVLVideoProcessor(**known),
        image_seq_length=9,
        chat_template=(family.checkpoint.path / "chat_template.jinja").read_text(),
    )
    model, said = whole_model(family), set()
    for question in QUESTIONS:
        content = [{"type": "video"}, {"type": "text", "text": question}]
        text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        theirs = processor(text=[text], videos=[frames.permute(0, 3, 1, 2)], return_tensors="pt")
        out = model.generate(**theirs, max_new_tokens=12, do_sample=False)[0, theirs["input_ids"].shape[1] :]
        answer = conversation.ask(question, max_new_tokens=12)
        assert answer.prompt_tokens == theirs["input_ids"].shape[1]
        assert answer.text == language.prompter.tokenizer.decode(out, skip_special_tokens=True)
        said.add(answer.text)
    assert len(said) > 1


# --- the prompt -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 7])
def test_the_prompt_is_the_processors_to_the_token(intern, frames, count):
    from transformers import InternVLProcessor

    if not hasattr(InternVLProcessor, "replace_video_token"):
        pytest.skip("transformers before this became a method")
    features = encode(intern, frames[:count])["features"]
    prompter = Prompter(intern)
    names = {"start_image_token": "<img>", "end_image_token": "</img>", "image_token": "<IMG_CONTEXT>"}
    video = InternVLProcessor.replace_video_token(
        SimpleNamespace(image_seq_length=9, **names), {"pixel_values_videos": [frames[:count]]}, 0
    )
    template = (intern.checkpoint.path / "chat_template.jinja").read_text()
    text = prompter.tokenizer.apply_chat_template(
        [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": QUESTIONS[0]}]}],
        chat_template=template,
        add_generation_prompt=True,
        tokenize=False,
    )
    assert text.count("<video>") == 1
    expected = prompter.tokenizer(text.replace("<video>", video))["input_ids"]
    ids, visual = prompter.ids(grid_of(intern, features), QUESTIONS[0])
    assert ids.tolist() == expected
    assert visual[visual >= 0].tolist() == list(range(9 * count))
    assert torch.equal(visual >= 0, ids == INTERNVL_VOCABULARY["<IMG_CONTEXT>"])


def test_frame_numbers_stay_when_all_tokens_of_a_frame_go(intern, frames):
    grid = grid_of(intern, encode(intern, frames[:3])["features"])
    language = LanguageModel(intern, FP32)
    prompt = language.prompter.prompt(language.model, grid, "w3", torch.tensor([2, 20]))  # none of the second frame
    words = language.prompter.tokenizer.convert_ids_to_tokens(prompt.ids.tolist())
    begin = words.index("Frame1")
    tag = ["<img>", "<IMG_CONTEXT>", "</img>"]
    assert words[begin : begin + 14] == [
        *("Frame1", ":", *tag),
        *("Frame2", ":", "<img>", "</img>"),
        *("Frame3", ":", *tag),
    ]


# --- evidence -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "height", "width"), CLIPS)
def test_evidence_equals_eager_attention_without_the_cls_token(either, frames, count, height, width):
    """The token of row i and column j stands for the patches of rows 2i, 2i + 1 and columns 2j, 2j + 1."""
    clip = resized(frames, count, height, width)
    got = encode(either, clip, evidence=("saliency", "keys"))
    torch.testing.assert_close(got["features"], encode(either, clip)["features"], rtol=1e-4, atol=1e-4)
    model, keys = whole_model(either, "eager"), []
    tower = model.model.vision_tower
    tower.encoder.layer[-1].attention.k_norm.register_forward_hook(lambda *call: keys.append(call[2]))
    with torch.inference_mode():
        weights = tower(preprocess(either, clip)["pixel_values"], output_attentions=True).attentions[-1]
    received = weights[:, :, 0].mean(1)  # (n, 37): what each patch receives from [CLS], mean over heads
    torch.testing.assert_close(received.sum(1), torch.ones(count))
    saliency, pooled = torch.zeros(count, 3, 3), torch.zeros(count, 3, 3, 32)
    for i in range(3):
        for j in range(3):
            patches = [1 + 6 * row + column for row in (2 * i, 2 * i + 1) for column in (2 * j, 2 * j + 1)]
            saliency[:, i, j] = received[:, patches].mean(1)
            pooled[:, i, j] = keys[0][:, patches].mean(1)
    torch.testing.assert_close(got["saliency"], saliency, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(got["keys"].flatten(3), pooled, rtol=1e-4, atol=1e-5)
    assert got["keys"].shape == (count, 3, 3, 2, 16)


def test_a_change_in_one_cells_pixels_moves_that_cell(either, frames):
    """With every layer an identity, a token's features and keys hang on its own 8 x 8 pixels, resized 1 : 1."""
    encoder = VisionEncoder(either, FP32, evidence=frozenset({"keys"}))
    for layer in encoder.model.model.vision_tower.encoder.layer:
        torch.nn.init.zeros_(layer.lambda_1)
        torch.nn.init.zeros_(layer.lambda_2)
    clip = resized(frames, 2, 24, 24)
    only_that_cell_moves(encoder, clip, [(0, 0, 0), (1, 0, 2), (1, 2, 0), (0, 1, 2), (1, 1, 1)])


def test_saliency_finds_the_cell_that_keys_point_at(intern, frames):
    """Queries turned into one direction, and keys that follow brightness: the bright cell is the salient one."""
    encoder = VisionEncoder(intern, FP32, evidence=frozenset({"saliency"}))
    tower = encoder.model.model.vision_tower
    for layer in tower.encoder.layer:
        torch.nn.init.zeros_(layer.lambda_1)
        torch.nn.init.zeros_(layer.lambda_2)
    last = tower.encoder.layer[-1]
    last.layernorm_before = torch.nn.Identity()
    torch.nn.init.zeros_(tower.embeddings.position_embeddings)
    torch.nn.init.constant_(tower.embeddings.patch_embeddings.projection.weight, 0.1)
    for projection, bias in ((last.attention.q_proj, 1.0), (last.attention.k_proj, 0.0)):
        torch.nn.init.constant_(projection.weight, 0.0 if bias else 0.01)
        torch.nn.init.constant_(projection.bias, bias)
    for t, row, column in ((0, 0, 1), (1, 2, 0), (0, 1, 2)):
        clip = torch.zeros(2, 24, 24, 3, dtype=torch.uint8)
        clip[t, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 255
        saliency = encoder.encode(clip)["saliency"]
        assert saliency[t].flatten().argmax() == 3 * row + column
        assert saliency[1 - t].std() < 1e-6


# --- pixels and loading ---------------------------------------------------------------------------------------------


def test_pixels_equal_transformers_pil_processor(intern, frames):
    """The image processor of these checkpoints; its video processor does the same to every frame."""
    settings = json.loads((intern.checkpoint.path / "preprocessor_config.json").read_text())
    names = ("size", "image_mean", "image_std", "resample", "do_resize", "do_rescale", "do_normalize", "rescale_factor")
    processor = GotOcr2ImageProcessorPil(**{name: settings[name] for name in names}, crop_to_patches=False)
    for height, width in ((45, 60), (200, 90), (12, 13), (24, 24)):
        clip = resized(frames, 3, height, width)
        expected = processor([Image.fromarray(frame.numpy()) for frame in clip], return_tensors="pt")["pixel_values"]
        got = preprocess(intern, clip)["pixel_values"]
        assert got.shape == expected.shape == (3, 3, 24, 24)
        steps = (got - expected).abs() * 0.229 * 255  # in 8-bit levels
        assert steps.max() < 2.1 and steps.mean() < 0.2


@pytest.mark.processors
def test_pixels_equal_transformers_video_processor_where_torchvision_exists(intern, frames):
    pytest.importorskip("torchvision", reason="transformers' video processors need torchvision")
    from transformers import InternVLVideoProcessor

    clip = frames.permute(0, 3, 1, 2)
    expected = InternVLVideoProcessor(**video_settings(intern.checkpoint, CLIP))(clip, return_tensors="pt")
    got = preprocess(intern, frames)["pixel_values"]
    torch.testing.assert_close(got[None], expected["pixel_values_videos"], rtol=1e-5, atol=1e-5)


def change(path: Path, **entries: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def test_frames_have_the_encoders_size_and_mean_whatever_the_video_settings_say(intern, frames, tmp_path):
    """InternVL 3 has no video settings, those of InternVL 3.5 are of no use, and transformers 5 writes one file."""
    expected = preprocess(intern, frames)["pixel_values"]
    images = json.loads((intern.checkpoint.path / "preprocessor_config.json").read_text())
    wrong = {**images, "size": {"height": 20, "width": 20}, "image_mean": [0.48, 0.46, 0.41]}
    one = {"image_processor": images, "video_processor": wrong}
    for number, (name, content) in enumerate(
        [("video_preprocessor_config.json", wrong), ("processor_config.json", one)]
    ):
        folder = internvl_checkpoint(tmp_path / str(number))
        (folder / name).write_text(json.dumps(content))
        assert torch.equal(preprocess(open_family(str(folder)), frames)["pixel_values"], expected)
    own = internvl_checkpoint(tmp_path / "own")
    (own / "video_preprocessor_config.json").write_text(json.dumps({**images, "image_mean": [0.48, 0.46, 0.41]}))
    assert not torch.equal(preprocess(open_family(str(own)), frames)["pixel_values"], expected)


def test_the_published_size_gives_16_by_16_tokens(tmp_path, frames):
    folder = internvl_checkpoint(tmp_path / "model", vision={"image_size": [448, 448], "patch_size": [14, 14]})
    change(folder / "preprocessor_config.json", size={"height": 448, "width": 448})
    features = encode(open_family(str(folder)), frames[:1])["features"]
    assert features.shape == (1, 16, 16, 48)
    assert math.prod(features.shape[:3]) == 256


def test_each_step_loads_only_its_part(intern):
    vision, language = load_vision(intern, FP32), load_language(intern, FP32)
    assert len(vision.model.vision_tower.encoder.layer) == 3 and not [*vision.model.language_model.parameters()]
    assert len(language.model.language_model.layers) == 3 and not [*language.model.vision_tower.parameters()]
