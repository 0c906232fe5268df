"""Dummies: published sizes, random weights, and the same door as a real checkpoint."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

from stsimdiff_cli import pipeline
from stsimdiff_cli.errors import RequestError
from stsimdiff_cli.methods.spec import parse_method
from stsimdiff_cli.models import family_of
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.inference.language_model import LanguageModel, Prompter
from stsimdiff_cli.models.inference.vision_encoder import VisionEncoder
from stsimdiff_cli.models.loading.presets import PRESETS, find_preset
from stsimdiff_cli.models.loading.random_weights import write_dummy
from stsimdiff_cli.models.loading.runtime import ResolvedRuntime, Runtime
from stsimdiff_cli.models.loading.weights import load_language, load_vision
from stsimdiff_cli.profiling.clip import write_default_clip
from stsimdiff_cli.video import Sampling
from tests.support.references.published_sizes import PARAMETERS
from tests.support.runtimes import FP32
from tests.support.tokens import make_tokens

TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL = {
    "llava_video": TEXT | {"vision_config": {"model_type": "siglip_vision_model", **VISION, "num_hidden_layers": 3}},
    "nvila": {"llm_cfg": TEXT, "vision_tower_cfg": VISION},
    "llava_onevision": {"text_config": TEXT, "vision_config": VISION},
    "internvl": {"text_config": TEXT, "vision_config": VISION},
    "smolvlm": {"text_config": TEXT | {"head_dim": 16}, "vision_config": VISION},
    "qwen2_5_vl": {
        "text_config": TEXT
        | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}},
        "vision_config": {
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 64,
            "fullatt_block_indexes": [1],
        },
    },
    "qwen3_vl": {
        "text_config": TEXT
        | {"head_dim": 16, "rope_parameters": {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [4, 2, 2]}},
        "vision_config": {
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 64,
            "deepstack_visual_indexes": [0, 1],
        },
    },
}
#: Slots, rows and columns of four frames of 640 x 360 pixels.
GRIDS = {
    "llava-video-7b": (4, 14, 15),
    "nvila-8b-video": (1, 16, 16),
    "llava-onevision-0.5b": (4, 14, 14),
    "qwen2.5-vl-7b": (2, 13, 23),
    "qwen2.5-vl-3b": (2, 13, 23),
    "internvl3-8b": (4, 16, 16),
    "smolvlm2-2.2b": (4, 9, 9),
    "smolvlm2-256m": (4, 8, 8),
    "qwen3-vl-8b": (2, 11, 20),
}
#: Special tokens of a prompt with two slots of one token each (#); words are left out.
QWEN3_SLOT = "<|vision_start|> # <|vision_end|>"
SMOL_FRAME = "<fake_token_around_image> <global-img> # <fake_token_around_image>"
PROMPTS = {
    "llava_video": "<|im_start|> <|im_end|> <|im_start|> # # <|im_end|> <|im_start|>",
    "nvila": "<|im_start|> <|im_end|> <|im_start|> # # <|im_end|> <|im_start|>",
    "llava_onevision": "<|im_start|> # # <video> <|im_end|> <|im_start|>",  # the last one is the newline
    "qwen2_5_vl": "<|im_start|> <|vision_start|> # # <|vision_end|> <|im_end|> <|im_start|>",
    "qwen3_vl": f"<|im_start|> <|vision_start|> {QWEN3_SLOT} {QWEN3_SLOT} <|vision_end|> <|im_end|> <|im_start|>",
    "internvl": "<|im_start|> <img> # </img> <img> # </img> <|im_end|> <|im_start|>",
    "smolvlm": f"<|im_start|> {SMOL_FRAME} {SMOL_FRAME} <end_of_utterance>",
}
CPU = torch.device("cpu")
META = torch.device("meta")


def family_name(preset: str) -> str:
    return family_of(find_preset(preset).config, preset)


def small(folder: Path, preset: str, **more) -> Path:
    return write_dummy(folder, preset, **SMALL[family_name(preset)] | more)


@pytest.fixture(scope="module", params=PRESETS)
def preset(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(preset, tmp_path_factory) -> Path:
    return small(tmp_path_factory.mktemp(preset), preset)


# --- sizes ----------------------------------------------------------------------------------------------------------


def parameters(config) -> int:
    with META:
        model = AutoModelForImageTextToText.from_config(config)
    model.tie_weights()
    return sum(parameter.numel() for parameter in model.parameters())


def test_presets_have_the_published_number_of_parameters(preset, tmp_path):
    assert parameters(open_family(str(write_dummy(tmp_path, preset))).config) == PARAMETERS[preset]


def test_the_number_of_parameters_is_what_one_counts_by_hand(preset, tmp_path):
    config = open_family(str(write_dummy(tmp_path, preset))).config
    vision, merger = BY_HAND[family_name(preset)](config)
    assert llm_by_hand(config.text_config) + vision + merger == PARAMETERS[preset]


def llm_by_hand(text) -> int:
    d, f = text.hidden_size, text.intermediate_size
    head = getattr(text, "head_dim", None) or d // text.num_attention_heads
    q, kv = text.num_attention_heads * head, text.num_key_value_heads * head
    bias = q + 2 * kv if text.model_type.startswith("qwen2") else 0  # of queries, keys and values
    norms = 2 * head if text.model_type.startswith("qwen3") else 0  # of queries and keys
    layer = 2 * d * q + 2 * d * kv + bias + norms + 3 * d * f + 2 * d
    words = text.vocab_size * d * (1 if text.tie_word_embeddings else 2)
    return text.num_hidden_layers * layer + d + words


def qwen2_5_vl_by_hand(config) -> tuple[int, int]:
    d, side = config.text_config.hidden_size, 1280 * 4
    vision = 32 * (4 * 1280**2 + 4 * 1280 + 3 * 1280 * 3420 + 2 * 3420 + 1280 + 2 * 1280) + 3 * 2 * 14**2 * 1280
    return vision, 1280 + side * side + side + side * d + d


def qwen3_vl_by_hand(config) -> tuple[int, int]:
    d, width, side = config.text_config.hidden_size, 1152, 4 * 1152
    block = 4 * (width**2 + width) + 2 * width * 4304 + 4304 + width + 4 * width
    vision = 27 * block + 3 * 2 * 16**2 * width + width + 2304 * width
    merger = side * side + side + side * d + d
    return vision, 2 * width + merger + 3 * (2 * side + merger)  # one for the last layer, one for each of three others


def siglip_by_hand(width: int, mlp: int, layers: int, patch: int, side: int) -> int:
    block = 4 * (width**2 + width) + 2 * width * mlp + mlp + width + 4 * width
    return layers * block + 3 * patch**2 * width + width + side**2 * width + 2 * width


def llava_by_hand(config) -> tuple[int, int]:
    d = config.text_config.hidden_size
    return siglip_by_hand(1152, 4304, 26, 14, 27), 1152 * d + d + d * d + d + d  # projector and newline


def nvila_by_hand(config) -> tuple[int, int]:
    d, square = config.text_config.hidden_size, 4 * 1152
    return siglip_by_hand(1152, 4304, 26, 14, 32), 2 * square + square * d + d + d * d + d


def internvl_by_hand(config) -> tuple[int, int]:
    d, width, shuffled = config.text_config.hidden_size, 1024, 4 * 1024
    block = 4 * (width**2 + width) + 2 * width * 4096 + 4096 + width + 4 * width + 2 * width  # two norms, two scales
    vision = 24 * block + 3 * 14**2 * width + width + width + (32**2 + 1) * width  # patches, [CLS], positions
    return vision, 2 * shuffled + shuffled * d + d + d * d + d


def smolvlm_by_hand(config) -> tuple[int, int]:
    d = config.text_config.hidden_size
    if config.vision_config.image_size == 384:
        return siglip_by_hand(1152, 4304, 27, 14, 27), 1152 * 3**2 * d
    return siglip_by_hand(768, 3072, 12, 16, 32), 768 * 4**2 * d


BY_HAND = {
    "llava_video": llava_by_hand,
    "nvila": nvila_by_hand,
    "llava_onevision": llava_by_hand,
    "qwen2_5_vl": qwen2_5_vl_by_hand,
    "internvl": internvl_by_hand,
    "smolvlm": smolvlm_by_hand,
    "qwen3_vl": qwen3_vl_by_hand,
}


# --- folders --------------------------------------------------------------------------------------------------------


def test_llava_video_is_the_authors_own_format_and_not_llava_onevision():
    """It was served by LLaVA-OneVision's classes before there was a family for it."""
    assert [family_name(name) for name in ("llava-video-7b", "llava-onevision-0.5b")] == [
        "llava_video",
        "llava_onevision",
    ]
    assert find_preset("llava-video-7b").config["add_time_instruction"]


def test_presets_have_different_checkpoints_and_say_so_in_their_summaries():
    checkpoints = [find_preset(name).checkpoint for name in PRESETS]
    assert len(set(checkpoints)) == len(PRESETS)
    assert all(find_preset(name).summary.startswith(find_preset(name).checkpoint) for name in PRESETS)


def test_an_unknown_preset_gets_the_nearest_name():
    with pytest.raises(RequestError, match=r"llava-video-7") as caught:
        find_preset("llava-video-7")
    assert caught.value.hint == "Did you mean 'llava-video-7b'?"


def test_the_fingerprint_needs_no_weights_and_tells_sizes_apart(preset, folder, tmp_path):
    other = small(tmp_path, preset, initializer_range=0.3)
    checkpoint = open_family(str(folder)).checkpoint
    assert checkpoint.dummy
    assert checkpoint.weight_files() == []
    assert len(checkpoint.fingerprint) == 32
    assert checkpoint.fingerprint != open_family(str(other)).checkpoint.fingerprint


def test_trimmed_parts_have_the_weights_of_the_whole(folder):
    family = open_family(str(folder))
    whole = load_language(family, FP32).state_dict()
    first = load_language(family, FP32, layers=1).state_dict()
    assert set(first) < set(whole)
    assert all(torch.equal(tensor, whole[name]) for name, tensor in first.items())
    assert not any(tensor.isnan().any() for tensor in whole.values())


def test_parts_are_made_in_the_type_asked_for(folder):
    family = open_family(str(folder))
    for load in (load_vision, load_language):
        model = load(family, ResolvedRuntime(CPU, torch.bfloat16, "sdpa"))
        assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
        assert not model.training


def test_a_part_on_the_meta_device_has_shapes_and_no_values(folder):
    family = open_family(str(folder))
    for load in (load_vision, load_language):
        there, here = (
            load(family, ResolvedRuntime(device, torch.bfloat16, "sdpa")).named_parameters() for device in (META, CPU)
        )
        shapes = {name: parameter.shape for name, parameter in there if parameter.is_meta}
        assert shapes == {name: parameter.shape for name, parameter in here}


def test_words_are_unknown_and_special_tokens_are_not(preset, folder):
    tokenizer = Prompter(open_family(str(folder))).tokenizer
    special = find_preset(preset).special_tokens
    plain = tokenizer("".join(f"{text}word" for text in special), add_special_tokens=False)["input_ids"]
    assert plain == [number for text in special for number in (special[text], 0)]
    assert tokenizer.eos_token_id == special[find_preset(preset).eos_token]


def test_a_prompt_holds_the_special_tokens_of_the_family_in_their_order(preset, folder):
    family = open_family(str(folder))
    prompter = Prompter(family)
    grid = replace(make_tokens((2, 1, 1)).grid, layout=family.layout_of((2, 1, 1)))
    ids, visual = prompter.ids(grid, "What happens?")
    assert set(ids[visual >= 0].tolist()) == {family.placeholder}
    names = prompter.tokenizer.convert_ids_to_tokens(ids.tolist())
    shown = ["#" if place >= 0 else name for name, place in zip(names, visual, strict=True)]
    assert " ".join(name for name in shown if name != prompter.tokenizer.unk_token) == PROMPTS[family.name]
    assert shown.count(prompter.tokenizer.unk_token) >= 4  # a role, two words and a mark


def test_a_small_dummy_runs_through_every_stage(preset, folder, tmp_path):
    clip = tmp_path / "clip.mp4"
    write_default_clip(clip, 4)
    tokens = pipeline.encode_video(clip, str(folder), sampling=Sampling(frames=4), runtime=Runtime(device="cpu"))
    assert tokens.grid.shape == GRIDS[preset]
    assert tokens.features.shape == (*GRIDS[preset], 64)
    assert tokens.features.tensor().isfinite().all()
    video = pipeline.compress_tokens(
        tokens, Fraction("0.3"), parse_method("st-simdiff:tau_sim=1"), runtime=Runtime(device="cpu")
    )
    assert len(video.index) == -(-3 * tokens.grid.tokens // 10)
    conversation = pipeline.converse(video, runtime=Runtime(device="cpu"))
    conversation.language.model.generation_config.min_new_tokens = 5
    answer = conversation.ask("What happens in this video?", max_new_tokens=5)
    assert answer.tokens == 5


def test_the_same_seed_makes_the_same_features(folder, frames):
    family = open_family(str(folder))
    made = [VisionEncoder(family, FP32).encode(frames[:2])["features"] for _ in range(2)]
    assert torch.equal(*made)


def test_a_real_checkpoint_is_no_dummy():
    assert not open_family("tiny").checkpoint.dummy
    assert LanguageModel(open_family("tiny"), FP32, layers=1).model is not None
