"""Qwen2-VL: what the tests of every family do not cover."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image
from transformers.models.qwen2_vl import modeling_qwen2_vl
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from stsimdiff_cli.errors import VideoError
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.families.qwen2_5_vl import Qwen25VL
from stsimdiff_cli.models.families.qwen2_vl import Qwen2VL
from stsimdiff_cli.models.inference.language_model import LanguageModel
from stsimdiff_cli.models.inference.vision_encoder import VisionEncoder
from stsimdiff_cli.models.loading.weights import load_language, load_vision
from stsimdiff_cli.records import Sizing
from tests.support.checkpoints.qwen2_vl import qwen2_vl_checkpoint
from tests.support.family_checks import (
    CLIPS,
    only_that_cell_moves,
    resized,
)
from tests.support.runtimes import FP32
from tests.support.whole_models import encode, grid_of, preprocess, whole_model


@pytest.fixture(scope="module")
def qwen(tmp_path_factory) -> Qwen2VL:
    return open_family(str(qwen2_vl_checkpoint(tmp_path_factory.mktemp("qwen2_vl") / "model")))


def test_the_published_config_opens_it_and_not_its_successor(qwen):
    stored = qwen.checkpoint.config
    assert "text_config" not in stored and stored["rope_scaling"]["type"] == "mrope", "the layout of 2024"
    assert type(qwen) is Qwen2VL and not isinstance(qwen, Qwen25VL)
    assert qwen.config.text_config.num_hidden_layers == 3 and qwen.frames_per_slot == 2


@pytest.mark.parametrize("seconds", [(0.0, 2.0, 4.0, 6.0), (0.0, 0.7, 1.5, 2.1)])
def test_time_moves_one_step_a_slot_whatever_the_clock_says(qwen, frames, seconds):
    grid = replace(grid_of(qwen, encode(qwen, frames)["features"]), seconds=seconds)
    language = LanguageModel(qwen, FP32)
    prompt = language.prompter.prompt(language.model, grid, "w3", torch.arange(grid.tokens))
    t, h, w = grid.shape
    first = int((prompt.visual == 0).nonzero())
    expected = [
        [first + slot, first + row, first + column] for slot in range(t) for row in range(h) for column in range(w)
    ]
    assert prompt.positions[1:, prompt.visual >= 0].T.tolist() == expected
    assert prompt.positions[0].tolist() == list(range(len(prompt.ids)))
    question = prompt.positions[1:, first + grid.tokens :]
    assert question.tolist() == [list(range(first + max(h, w), first + max(h, w) + question.shape[1]))] * 3


@pytest.mark.parametrize(("count", "height", "width"), CLIPS)
def test_evidence_equals_eager_attention_and_the_keys_in_it(qwen, frames, count, height, width, monkeypatch):
    """By hand: patches stand in merge order, so that four columns of a slot's matrix in a row are one token."""
    clip = resized(frames, count, height, width)
    got = encode(qwen, clip, evidence=("saliency", "keys"))
    model, weights, inputs = whole_model(qwen, "eager"), [], []
    last = model.model.visual.blocks[-1].attn
    last.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    slow = modeling_qwen2_vl.eager_attention_forward

    def noted(module, *args, **kwargs):
        out = slow(module, *args, **kwargs)
        weights.append((module, out[1]))
        return out

    monkeypatch.setattr(modeling_qwen2_vl, "eager_attention_forward", noted)
    with torch.inference_mode():
        qwen.encode(model, preprocess(qwen, clip))
        keys = last.qkv(inputs[0])[:, 32:64]
    slots = [matrix[0] for module, matrix in weights if module is last]  # each (heads, patches, patches)
    t, h, w = got["saliency"].shape
    assert len(slots) == t and got["keys"].shape == (t, h, w, 2, 16)
    received = torch.stack([slot.mean((0, 1)) for slot in slots])
    torch.testing.assert_close(got["saliency"], received.view(t, h, w, 4).mean(-1), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(got["keys"], keys.view(t, h, w, 4, 2, 16).mean(3), rtol=1e-4, atol=1e-5)


def test_a_change_in_one_cells_pixels_moves_that_cell(qwen, frames):
    """With every block an identity, a token's features and keys hang on its own 8 x 8 pixels, resized 1 : 1."""
    encoder = VisionEncoder(qwen, FP32, evidence=frozenset({"keys"}))
    for block in encoder.model.model.visual.blocks:
        for layer in (block.attn.proj, block.mlp.fc2):
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
    clip = resized(frames, 4, 32, 40)
    assert encoder.encode(clip)["features"].shape[:3] == (2, 4, 5)
    only_that_cell_moves(encoder, clip, [(0, 0, 0), (1, 2, 4), (0, 3, 1), (1, 1, 2)], depth=2)


def test_pixels_equal_transformers_pil_processor(qwen, frames):
    settings = json.loads((qwen.checkpoint.path / "preprocessor_config.json").read_text())
    processor = Qwen2VLImageProcessorPil(**{k: v for k, v in settings.items() if k != "image_processor_type"})
    for height, width in ((45, 60), (200, 90), (90, 13), (12, 13), (16, 16)):
        frame = resized(frames, 1, height, width)
        expected = processor(Image.fromarray(frame[0].numpy()), return_tensors="pt")  # an image is a clip of one frame
        got = preprocess(qwen, frame)
        assert got["video_grid_thw"].tolist() == expected["image_grid_thw"].tolist()
        steps = (got["pixel_values_videos"] - expected["pixel_values"]).abs() * 0.26 * 255  # in 8-bit levels
        assert steps.max() < 2.1 and steps.mean() < 0.2


@pytest.mark.parametrize("height", [8, 13, 45, 100, 333, 1080])
@pytest.mark.parametrize("width", [8, 17, 60, 240, 1001, 1920])
def test_frames_get_the_size_of_transformers_smart_resize(qwen, height, width):
    """transformers' function cannot be used in the package itself, because importing it needs Pillow."""
    if max(height, width) > 200 * min(height, width):
        with pytest.raises(VideoError, match="too narrow"):
            qwen.size(height, width, Sizing(1))
        return
    assert qwen.size(height, width, Sizing(1)) == smart_resize(height, width, 8, 16 * 16, 40 * 40)


def test_an_odd_last_frame_is_repeated_to_fill_its_slot(qwen, frames):
    for odd, even in (([0], [0, 0]), ([0, 1, 2], [0, 1, 2, 2])):
        ours, theirs = preprocess(qwen, frames[odd]), preprocess(qwen, frames[even])
        assert torch.equal(ours["pixel_values_videos"], theirs["pixel_values_videos"])


def test_frames_like_a_thread_are_refused(qwen):
    with pytest.raises(VideoError, match="too narrow"):
        preprocess(qwen, torch.zeros(1, 2, 500, 3, dtype=torch.uint8))


def test_each_step_loads_only_its_part(qwen):
    vision, language = load_vision(qwen, FP32), load_language(qwen, FP32)
    assert len(vision.model.visual.blocks) == 3 and not [*vision.model.language_model.parameters()]
    assert len(language.model.language_model.layers) == 3 and not [*language.model.visual.parameters()]
    assert language.lm_head.weight is language.get_input_embeddings().weight, "tied, as in the 2B model"
