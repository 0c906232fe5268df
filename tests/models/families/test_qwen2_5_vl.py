"""Qwen2.5-VL: what the tests of every family do not cover."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.families.qwen2_5_vl import Qwen25VL
from stsimdiff_cli.models.inference.language_model import LanguageModel
from stsimdiff_cli.models.inference.vision_encoder import VisionEncoder
from tests.support.checkpoints.qwen2_5_vl import qwen2_5_vl_checkpoint
from tests.support.runtimes import FP32
from tests.support.whole_models import encode, grid_of, preprocess


@pytest.fixture(scope="module")
def qwen(tmp_path_factory) -> Qwen25VL:
    return open_family(str(qwen2_5_vl_checkpoint(tmp_path_factory.mktemp("qwen2_5_vl") / "model")))


def test_times_follow_fractions_of_seconds(qwen, frames):
    """Time, row and column of every visual token as Qwen2.5-VL defines them; here 2 positions a second."""
    features = encode(qwen, frames)["features"]
    grid = replace(grid_of(qwen, features), seconds=(0.0, 0.7, 1.5, 2.1))
    language = LanguageModel(qwen, FP32)
    prompt = language.prompter.prompt(language.model, grid, "w3", torch.arange(grid.tokens))
    t, h, w = grid.shape
    first = int((prompt.visual == 0).nonzero())
    expected = [
        [first + int(i * 2 * 0.7), first + row, first + column]
        for i in range(t)
        for row in range(h)
        for column in range(w)
    ]
    assert prompt.positions[1:, prompt.visual >= 0].T.tolist() == expected
    assert prompt.positions[0].tolist() == list(range(len(prompt.ids)))
    question = prompt.positions[1:, first + grid.tokens :]
    assert question[0].tolist() == question[1].tolist() == question[2].tolist()
    assert question[0].tolist() == list(range(first + max(h, w), first + max(h, w) + question.shape[1]))


def test_saliency_and_keys_come_out_of_window_order_like_the_features(qwen, frames):
    """With every vision layer but the merger an identity, keys must be a linear function of the cell's own pixels."""
    encoder = VisionEncoder(qwen, FP32, evidence=frozenset({"keys"}))
    for block in encoder.model.model.visual.blocks:
        torch.nn.init.zeros_(block.attn.proj.weight)
        torch.nn.init.zeros_(block.attn.proj.bias)
        torch.nn.init.zeros_(block.mlp.down_proj.weight)
        torch.nn.init.zeros_(block.mlp.down_proj.bias)
    base = encoder.encode(frames[:2])
    changed = frames[:2].clone()
    changed[:, :10, 40:50] = 255 - changed[:, :10, 40:50]  # one corner of the picture
    other = encoder.encode(changed)
    moved_features = (base["features"] - other["features"]).abs().amax(-1) > 1e-4
    moved_keys = (base["keys"] - other["keys"]).abs().amax((-2, -1)) > 1e-4
    assert 0 < int(moved_features.sum()) < moved_features.numel() / 2
    assert torch.equal(moved_features, moved_keys)


def test_pixels_equal_transformers_pil_processor(qwen, frames):
    from PIL import Image

    settings = json.loads((qwen.checkpoint.path / "preprocessor_config.json").read_text())
    processor = Qwen2VLImageProcessorPil(**{k: v for k, v in settings.items() if k != "image_processor_type"})
    for height, width in ((45, 60), (200, 90), (12, 13), (16, 16)):
        frame = torch.nn.functional.interpolate(
            frames[:1].permute(0, 3, 1, 2), size=(height, width), mode="bicubic", antialias=True
        ).permute(0, 2, 3, 1)  # (1, height, width, 3)
        expected = processor(Image.fromarray(frame[0].numpy()), return_tensors="pt")  # an image is a clip of one frame
        got = preprocess(qwen, frame)
        assert got["video_grid_thw"].tolist() == expected["image_grid_thw"].tolist()
        steps = (got["pixel_values_videos"] - expected["pixel_values"]).abs() * 0.26 * 255  # in 8-bit levels
        assert steps.max() < 2.1 and steps.mean() < 0.2


def test_an_odd_last_frame_is_repeated_to_fill_its_slot(qwen, frames):
    odd = preprocess(qwen, frames[:3])
    even = preprocess(qwen, frames[[0, 1, 2, 2]])
    assert torch.equal(odd["pixel_values_videos"], even["pixel_values_videos"])
