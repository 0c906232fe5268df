"""LLaVA-NeXT-Video on a tiny checkpoint: its preprocessing, [CLS], pooling and prompt, against transformers' own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from stsimdiff_cli.errors import ModelError
from stsimdiff_cli.methods import METHODS
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.families.base import Family
from stsimdiff_cli.models.inference.conversation import Conversation
from stsimdiff_cli.models.inference.language_model import LanguageModel
from stsimdiff_cli.models.inference.vision_encoder import VisionEncoder
from tests.support.checkpoints.llava_next_video import VICUNA_TEMPLATE, llava_next_video_checkpoint
from tests.support.checkpoints.parts import QUESTIONS
from tests.support.family_checks import a_method_keeps_its_budget, clip_of, dummy_of
from tests.support.runtimes import FP32
from tests.support.whole_models import encode, grid_of, preprocess, tokens_of, whole_model

EVIDENCE = ("saliency", "keys")
EDGE_336 = {"crop_size": {"height": 336, "width": 336}, "size": {"shortest_edge": 336}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return llava_next_video_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def next_video(folder) -> Family:
    return open_family(str(folder))


@pytest.mark.parametrize("size", [(7, 45, 60), (1, 33, 51), (3, 71, 40), (2, 24, 24), (2, 11, 90)])
def test_at_ratio_one_answers_equal_generate_from_pixels_token_for_token(size, next_video):
    frames = clip_of(*size)
    language, model = LanguageModel(next_video, FP32), whole_model(next_video)
    tokens = tokens_of(next_video, frames, chunk=2)
    grid = tokens.grid
    assert grid.shape == (size[0], 3, 3)
    conversation = Conversation(language, grid, tokens.embeddings, torch.arange(grid.tokens))
    tokenizer, seen = language.prompter.tokenizer, set()
    for question in [*QUESTIONS, "w5", "user what is this"]:
        # As LlavaNextVideoProcessor writes it: the template, <video> once for each token, special tokens added.
        text = f"USER: {'<video>' * grid.tokens}\n{question} ASSISTANT:"
        inputs = tokenizer(text, return_tensors="pt")
        assert inputs["input_ids"][0, 0] == tokenizer.bos_token_id != inputs["input_ids"][0, 1]
        assert torch.equal(language.prompter.ids(grid, question)[0], inputs["input_ids"][0])
        out = model.generate(
            **{name: inputs[name] for name in ("input_ids", "attention_mask")},
            **preprocess(next_video, frames),
            max_new_tokens=12,
            do_sample=False,
        )
        expected = out[0, inputs["input_ids"].shape[1] :].tolist()
        answer = conversation.ask(question, max_new_tokens=12)
        assert answer.text == tokenizer.decode(expected, skip_special_tokens=True)
        assert answer.tokens == len(expected)
        seen.add(answer.text)
    assert len(seen) > 1, "a random model that always says the same proves nothing"


def test_a_beginning_that_the_template_writes_is_not_written_twice(tmp_path):
    folder = llava_next_video_checkpoint(tmp_path)
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": "<s>" + VICUNA_TEMPLATE}))
    family = open_family(str(folder))
    language = LanguageModel(family, FP32)
    ids, _ = language.prompter.ids(grid_of(family, torch.zeros(1, 3, 3, 48)), "w5")
    assert ids.tolist().count(language.prompter.tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("edge", [24, 336])
@pytest.mark.parametrize("size", [(45, 60), (60, 45), (33, 51), (71, 40), (24, 24), (10, 13), (360, 641)])
def test_pixels_equal_transformers_pil_processor(size, edge, tmp_path):
    from PIL import Image

    family = _with_settings(tmp_path, crop_size={"height": edge, "width": edge}, size={"shortest_edge": edge})
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text())
    frames = clip_of(2, *size)
    images = [Image.fromarray(frame.numpy()) for frame in frames]
    expected = CLIPImageProcessorPil(**settings)(images, return_tensors="pt")["pixel_values"]
    got = preprocess(family, frames)["pixel_values_videos"][0]
    assert got.shape == (2, 3, edge, edge)
    steps = (got - expected).abs() * 0.27 * 255  # in 8-bit levels
    assert steps.max() < 2.1 and steps.mean() < 0.2


def _with_settings(folder: Path, **changes) -> Family:
    file = llava_next_video_checkpoint(folder) / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return open_family(str(folder))


def test_what_is_outside_the_middle_square_is_not_seen(next_video):
    wide = clip_of(1, 24, 48)
    other = wide.clone()
    other[:, :, :10] = 255 - other[:, :, :10]  # the square is columns 12 to 35
    assert torch.equal(*(preprocess(next_video, clip)["pixel_values_videos"] for clip in (wide, other)))


def test_a_checkpoint_without_a_cut_gets_whole_frames(tmp_path):
    family = _with_settings(tmp_path, do_center_crop=False, size={"height": 24, "width": 24})
    assert preprocess(family, clip_of(2, 30, 50))["pixel_values_videos"].shape == (1, 2, 3, 24, 24)


def test_a_cut_larger_than_the_frame_is_refused(tmp_path):
    family = _with_settings(tmp_path, crop_size={"height": 30, "width": 30})
    with pytest.raises(ModelError, match="crops frames to more"):
        preprocess(family, clip_of(1, 30, 50))


@pytest.mark.parametrize("mode", ["average", "max"])
def test_evidence_is_that_of_the_layer_whose_output_the_features_are(mode, tmp_path):
    folder = llava_next_video_checkpoint(tmp_path)
    config = json.loads((folder / "config.json").read_text()) | {"spatial_pool_mode": mode}
    (folder / "config.json").write_text(json.dumps(config))
    family = open_family(str(folder))
    frames = clip_of(3, 45, 60)
    got = encode(family, frames, evidence=EVIDENCE)
    eager = whole_model(family, "eager").model
    with torch.inference_mode():
        out = eager.vision_tower(
            preprocess(family, frames)["pixel_values_videos"][0], output_attentions=True, output_hidden_states=True
        )
        pool = lambda x: eager.vision_resampler(x[:, 1:]).unflatten(1, (3, 3))  # noqa: E731 (without [CLS])
        layer = eager.vision_tower.encoder.layers[-2]
        keys = layer.self_attn.k_proj(layer.layer_norm1(out.hidden_states[-3]))  # the input of that layer
        received = out.attentions[-2][:, :, 0].mean(1)  # (n, 37): what [CLS] attends to, mean over heads
        torch.testing.assert_close(got["saliency"], pool(received[..., None])[..., 0], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(got["keys"].flatten(3), pool(keys), rtol=1e-4, atol=1e-4)
        features = eager.multi_modal_projector(pool(out.hidden_states[-2]))
        torch.testing.assert_close(got["features"], features, rtol=1e-4, atol=1e-4)
    if mode == "average":
        torch.testing.assert_close(got["saliency"].sum((1, 2)) * 4 + received[:, 0], torch.ones(3))


@pytest.mark.parametrize("cell", [(0, 0), (0, 2), (1, 2), (2, 0)])
def test_a_change_in_one_cell_moves_that_cell_alone(cell, next_video):
    """With every encoder layer an identity, features and keys are functions of the cell's own pixels."""
    encoder = VisionEncoder(next_video, FP32, evidence=frozenset(EVIDENCE))
    for layer in encoder.model.model.vision_tower.encoder.layers:
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


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_keeps_exactly_its_budget_of_a_video(name, next_video):
    a_method_keeps_its_budget(name, next_video, clip_of(5, 71, 40), "w5")


def test_at_the_published_size_a_frame_is_144_tokens(tmp_path):
    family = dummy_of(llava_next_video_checkpoint(tmp_path), {"image_size": 336, "patch_size": 14}, EDGE_336)
    got = encode(family, clip_of(2, 90, 160), evidence=EVIDENCE)
    assert got["features"].shape[:3] == got["keys"].shape[:3] == got["saliency"].shape == (2, 12, 12)
