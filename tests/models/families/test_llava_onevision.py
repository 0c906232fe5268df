"""LLaVA-OneVision: what the tests of every family do not cover."""

from __future__ import annotations

import json

import pytest
import torch
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.families.llava_onevision import LlavaOnevision
from tests.support.checkpoints.llava_onevision import llava_onevision_checkpoint
from tests.support.whole_models import encode, preprocess, whole_model


@pytest.fixture(scope="module")
def onevision(tmp_path_factory) -> LlavaOnevision:
    return open_family(str(llava_onevision_checkpoint(tmp_path_factory.mktemp("llava_onevision") / "model")))


def test_saliency_is_the_eager_attention_received_pooled_by_the_model(onevision, frames):
    saliency = encode(onevision, frames, evidence=("saliency",))["saliency"]
    eager = whole_model(onevision, "eager")
    with torch.inference_mode():
        pixels = preprocess(onevision, frames)["pixel_values_videos"][0]
        rows = eager.model.vision_tower(pixels, output_attentions=True).attentions[-1].mean((1, 2))  # (n, 49)
        pooled = eager.model.apply_pooling(rows[..., None])[..., 0].view(saliency.shape)
    torch.testing.assert_close(saliency, pooled, rtol=1e-4, atol=1e-6)


def test_pixels_equal_transformers_pil_processor(onevision, frames):
    from PIL import Image

    settings = json.loads((onevision.checkpoint.path / "video_preprocessor_config.json").read_text())
    processor = SiglipImageProcessorPil(**settings)
    expected = processor([Image.fromarray(frame.numpy()) for frame in frames], return_tensors="pt")["pixel_values"]
    steps = (preprocess(onevision, frames)["pixel_values_videos"][0] - expected).abs() * 0.5 * 255
    assert steps.max() < 2.1 and steps.mean() < 0.2
