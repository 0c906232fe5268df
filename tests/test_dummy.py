"""Dummies: published sizes, random weights, and the same door as a real checkpoint."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from stsimdiff_cli import pipeline
from stsimdiff_cli.errors import RequestError
from stsimdiff_cli.methods.base import parse_method
from stsimdiff_cli.models.dummy import PRESETS, find_preset, write_dummy
from stsimdiff_cli.models.language import LanguageModel, Prompter
from stsimdiff_cli.models.loading import load_language, load_vision, open_family
from stsimdiff_cli.models.vision import VisionEncoder
from stsimdiff_cli.profiling.clip import make_clip

#: The model cards round these to 8.03, 0.9, 8.29 and 3.75 billion.
PARAMETERS = {
    "llava-video-7b": 8_030_348_832,
    "llava-onevision-0.5b": 893_675_552,
    "qwen2.5-vl-7b": 8_292_166_656,
    "qwen2.5-vl-3b": 3_754_622_976,
}
SMALL = {
    "llava-onevision-0.5b": {
        "text_config": {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4},
        "vision_config": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
    },
    "qwen2.5-vl-3b": {
        "text_config": {
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
        },
        "vision_config": {
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 64,
            "fullatt_block_indexes": [1],
        },
    },
}
CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=sorted(SMALL))
def folder(request, tmp_path_factory) -> Path:
    return write_dummy(tmp_path_factory.mktemp(request.param), request.param, **SMALL[request.param])


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_have_the_published_number_of_parameters(preset, tmp_path):
    config = AutoConfig.from_pretrained(write_dummy(tmp_path, preset))
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    model.tie_weights()
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[preset]


@pytest.mark.parametrize("preset", PRESETS)
def test_the_number_of_parameters_is_what_one_counts_by_hand(preset, tmp_path):
    text = AutoConfig.from_pretrained(write_dummy(tmp_path, preset)).text_config
    d, f, kv = text.hidden_size, text.intermediate_size, text.hidden_size // text.num_attention_heads
    kv *= text.num_key_value_heads
    attention = 2 * d * d + 2 * d * kv + d + 2 * kv  # queries, keys and values have a bias, the output none
    layer = attention + 3 * d * f + 2 * d
    words = text.vocab_size * d * (1 if text.tie_word_embeddings else 2)
    expected = text.num_hidden_layers * layer + d + words
    if preset.startswith("qwen"):
        side = 1280 * 4
        merger = 1280 + side * side + side + side * d + d
        vision = 32 * (4 * 1280**2 + 4 * 1280 + 3 * 1280 * 3420 + 2 * 3420 + 1280 + 2 * 1280) + 3 * 2 * 14**2 * 1280
    else:
        block = 4 * (1152**2 + 1152) + 2 * 1152 * 4304 + 4304 + 1152 + 4 * 1152
        vision = 26 * block + 3 * 14**2 * 1152 + 1152 + 27**2 * 1152 + 2 * 1152
        merger = 1152 * d + d + d * d + d + d  # projector and newline
    assert expected + vision + merger == PARAMETERS[preset]


def test_an_unknown_preset_gets_the_nearest_name():
    with pytest.raises(RequestError, match=r"llava-video-7") as caught:
        find_preset("llava-video-7")
    assert caught.value.hint == "Did you mean 'llava-video-7b'?"


def test_the_fingerprint_needs_no_weights_and_tells_sizes_apart(folder, tmp_path):
    preset = "llava-onevision-0.5b"
    other = write_dummy(tmp_path, preset, **SMALL[preset] | {"text_config": {"num_hidden_layers": 5}})
    checkpoint = open_family(str(folder)).checkpoint
    assert checkpoint.dummy
    assert checkpoint.weight_files() == []
    assert len(checkpoint.fingerprint) == 32
    assert checkpoint.fingerprint != open_family(str(other)).checkpoint.fingerprint


def test_trimmed_parts_have_the_weights_of_the_whole(folder):
    family = open_family(str(folder))
    whole = load_language(family, CPU, torch.float32).state_dict()
    first = load_language(family, CPU, torch.float32, layers=1).state_dict()
    assert set(first) < set(whole)
    assert all(torch.equal(tensor, whole[name]) for name, tensor in first.items())
    assert not any(tensor.isnan().any() for tensor in whole.values())


def test_parts_are_made_in_the_type_asked_for(folder):
    family = open_family(str(folder))
    for load in (load_vision, load_language):
        model = load(family, CPU, torch.bfloat16)
        assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
        assert not model.training


def test_a_prompt_holds_the_placeholders_of_the_configuration(folder):
    family = open_family(str(folder))
    prompter = Prompter(family)
    plain = prompter.tokenizer("<|im_start|>user", add_special_tokens=False)["input_ids"]
    assert plain == [151644, 0]
    assert prompter.tokenizer.eos_token_id == 151645
    assert family.placeholder in (151647, 151656)


def test_a_small_dummy_runs_through_every_stage(folder, frames, tmp_path):
    clip = tmp_path / "clip.mp4"
    make_clip(clip, 4)
    tokens = pipeline.encode_video(clip, str(folder), frames=4, device="cpu")
    assert tokens.features.isfinite().all()
    video = pipeline.compress_tokens(tokens, Fraction("0.3"), parse_method("st-simdiff:tau_sim=1"), device="cpu")
    assert len(video.index) == -(-3 * tokens.grid.tokens // 10)
    conversation = pipeline.converse(video, device="cpu")
    conversation.language.model.generation_config.min_new_tokens = 5
    answer = conversation.ask("What happens in this video?", max_new_tokens=5)
    assert answer.tokens == 5


def test_the_same_seed_makes_the_same_features(folder, frames):
    family = open_family(str(folder))
    made = [VisionEncoder(family, CPU, torch.float32).encode(frames[:2])["features"] for _ in range(2)]
    assert torch.equal(*made)


def test_a_real_checkpoint_is_no_dummy():
    assert not open_family("tiny").checkpoint.dummy
    assert LanguageModel(open_family("tiny"), CPU, torch.float32, layers=1).model is not None
