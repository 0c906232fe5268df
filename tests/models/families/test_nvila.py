"""NVILA against a plain forward pass written from its published description."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.utils import filter_repo_objects
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer, Qwen2Tokenizer
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from stsimdiff_cli.errors import ModelError, RequestError
from stsimdiff_cli.methods import METHODS
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.families.nvila import Nvila
from stsimdiff_cli.models.families.nvila_model import NvilaForConditionalGeneration
from stsimdiff_cli.models.inference.conversation import Conversation
from stsimdiff_cli.models.inference.language_model import LanguageModel
from stsimdiff_cli.models.inference.prompts import Prompter
from stsimdiff_cli.models.inference.vision_encoder import VisionEncoder
from stsimdiff_cli.models.loading import checkpoint as checkpoints
from stsimdiff_cli.models.loading.checkpoint import DUMMY, find_checkpoint
from stsimdiff_cli.models.loading.weights import load_language, load_vision
from tests.support.checkpoints.nvila import BASIC, CHATML, SIDE, TSP, WORDS, nvila_checkpoint
from tests.support.checkpoints.parts import QUESTIONS, VOCABULARY
from tests.support.family_checks import CLIPS, every_method_keeps_its_budget, kept_tokens_keep_their_positions, resized
from tests.support.references.nvila import NvilaReference
from tests.support.runtimes import FP32
from tests.support.whole_models import encode, grid_of, preprocess, tokens_of, whole_model

#: Checkpoints by what they try, and the grid of seven frames of 7 x 7 patches.
KINDS: dict[str, tuple[dict[str, Any], tuple[int, int, int]]] = {
    "two frames a slot": ({}, (4, 4, 4)),
    "three frames a slot, pooled in space": (
        {"video_encoder": json.dumps(TSP | {"pool_sizes": [[3, 2, 4]]})},
        (3, 2, 1),
    ),
    "one frame a slot": ({"video_encoder": json.dumps(BASIC)}, (7, 4, 4)),
    "no video encoder named": ({"video_encoder": None}, (7, 4, 4)),
    "3 x 3": ({"projector": "mlp_downsample_3x3_fix", "video_encoder": None, "tied": True}, (7, 3, 3)),
    "three scales": ({"projector": "mlp_downsample", "dynamic_s2": True}, (4, 4, 4)),
}
LOADERS = (load_vision, load_language)
NEWLINE = WORDS["\n"]


@pytest.fixture(scope="module", params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def family(kind, tmp_path_factory) -> Nvila:
    return open_family(str(nvila_checkpoint(tmp_path_factory.mktemp("model"), **KINDS[kind][0])))


@pytest.fixture(scope="module")
def reference(family) -> NvilaReference:
    return NvilaReference(family.checkpoint.path)


def pixels_of(family: Nvila, frames: torch.Tensor) -> torch.Tensor:
    return preprocess(family, frames)["pixel_values_videos"][0]


def rewritten(folder: Path, file: str, **changes: Any) -> Path:
    """Change entries of one of a checkpoint's JSON files; None removes one."""
    entries = json.loads((folder / file).read_text()) | changes
    gone = {name for name, value in changes.items() if value is None}
    (folder / file).write_text(json.dumps({name: value for name, value in entries.items() if name not in gone}))
    return folder


# --- vision ---------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def test_features_equal_the_reference_on_a_grid_of_pooled_frames(kind, family, reference, frames):
    depth = family.frames_per_slot
    expected = reference.features(pixels_of(family, frames))
    assert expected.shape == (*KINDS[kind][1], 48)
    for chunk in (depth, 2 * depth, 100):
        torch.testing.assert_close(encode(family, frames, chunk=chunk)["features"], expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("clip", CLIPS)
def test_frames_of_any_number_and_shape(clip, family, reference, frames):
    some = resized(frames, *clip)
    expected = reference.features(pixels_of(family, some))
    assert len(expected) == -(-clip[0] // family.frames_per_slot)
    torch.testing.assert_close(encode(family, some)["features"], expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_an_unfilled_last_slot_is_the_mean_of_its_frames(tmp_path, frames):
    family = open_family(str(nvila_checkpoint(tmp_path / "model")))
    model = load_vision(family, FP32)
    single = model.frame_tokens(pixels_of(family, frames[:3]))
    got = encode(family, frames[:3])["features"]
    torch.testing.assert_close(got, torch.stack([(single[0] + single[1]) / 2, single[2]]), rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_saliency_and_keys_are_those_of_the_selected_layer_pooled_like_features(family, reference, frames):
    depth = family.frames_per_slot
    evidence = encode(family, frames, chunk=2 * depth, evidence=("saliency", "keys"))
    _, saliency, keys = reference.tower(pixels_of(family, frames))
    torch.testing.assert_close(
        evidence["saliency"][..., None], reference.gathered(saliency[..., None]), rtol=1e-4, atol=1e-6
    )
    torch.testing.assert_close(evidence["keys"].flatten(3), reference.gathered(keys), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_saliency_is_transformers_eager_attention_of_the_last_but_one_published_layer(tmp_path, frames):
    family = open_family(str(nvila_checkpoint(tmp_path / "model")))
    tower = whole_model(family, "eager").model.vision_tower
    rows = tower(pixels_of(family, frames), output_attentions=True).attentions
    assert len(rows) == 3  # of four
    pooled = torch.stack([row.mean(0) for row in rows[-1].mean((1, 2)).view(7, SIDE, SIDE).split(2)])
    saliency = encode(family, frames, evidence=("saliency",))["saliency"]
    torch.testing.assert_close(saliency[:, :3, :3], pooled[:, :6, :6].unfold(1, 2, 2).unfold(2, 2, 2).mean((3, 4)))
    torch.testing.assert_close(saliency[:, 3, 3], pooled[:, 6, 6])  # a corner of one patch and no more


@pytest.mark.parametrize("aspect", ["resize", "dynamic", "dynamic_s2", None])
def test_pixels_equal_siglips_image_processor(aspect, tmp_path, frames):
    """Frames become squares whatever the entry says; PIL's bicubic filter makes them if it is `resize`."""
    from PIL import Image

    folder = nvila_checkpoint(tmp_path / "model", image_aspect_ratio=aspect)
    family = open_family(str(rewritten(folder, "vision_tower/preprocessor_config.json", resample=2)))
    settings = json.loads((tmp_path / "model" / "vision_tower" / "preprocessor_config.json").read_text())
    processor = SiglipImageProcessorPil(**{k: v for k, v in settings.items() if k != "image_processor_type"})
    for count, height, width in CLIPS:
        some = resized(frames, count, height, width)
        images = [Image.fromarray(frame.numpy()) for frame in some]
        if aspect == "resize":
            images = [image.resize((4 * SIDE, 4 * SIDE)) for image in images]
        expected = processor(images, return_tensors="pt")["pixel_values"]
        got = pixels_of(family, some)
        assert got.shape == (count, 3, 4 * SIDE, 4 * SIDE)
        steps = (got - expected).abs() * 0.5 * 255  # in 8-bit levels
        assert steps.max() < 2.1 and steps.mean() < 0.3


# --- language -------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def test_greedy_answers_equal_the_reference_token_for_token(family, reference, frames):
    """All tokens and three in ten of them; Qwen2's own penalty for repeating, which the authors do not use, is not."""
    tokens = tokens_of(family, frames)
    grid = tokens.grid
    language = LanguageModel(family, FP32)
    expected_features = reference.features(pixels_of(family, frames))
    everything = torch.arange(grid.tokens)
    kept = everything[torch.rand(grid.tokens, generator=torch.Generator().manual_seed(3)) < 0.3]
    seen = set()
    for index, question in itertools.product((everything, kept), QUESTIONS):
        ids, visual = language.prompter.ids(grid, question)
        stays = (visual < 0) | torch.isin(visual, index)
        positions = torch.arange(len(ids))[stays]  # dropping tokens moves no other
        expected = reference.greedy(expected_features, ids[stays], visual[stays], positions, 16)
        answer = Conversation(language, grid, tokens.embeddings[index], index).ask(question, max_new_tokens=16)
        assert answer.text == language.prompter.tokenizer.decode(expected, skip_special_tokens=True)
        assert answer.tokens == len(expected)
        seen.add(answer.text)
    assert len(seen) > 2, "a random model that always says the same proves nothing"


def test_kept_tokens_stand_where_they_stood(family, frames):
    kept_tokens_keep_their_positions(family, frames, Fraction("0.3"))


def test_a_newline_follows_every_slot_and_is_kept_when_all_its_tokens_are_pruned(family, frames):
    features = encode(family, frames)["features"]
    grid = grid_of(family, features)
    t, h, w = grid.shape
    prompter = Prompter(family)
    ids, visual = prompter.ids(grid, "w1 ?")
    tokenizer = prompter.tokenizer
    before = tokenizer("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n")["input_ids"]
    after = tokenizer("w1 ?<|im_end|>\n<|im_start|>assistant\n")["input_ids"]
    slots = [*[family.placeholder] * (h * w), NEWLINE] * t
    assert ids.tolist() == before + slots + after
    assert visual[visual >= 0].tolist() == list(range(t * h * w))
    model = LanguageModel(family, FP32).model
    alone = prompter.prompt(model, grid, "w1 ?", torch.tensor([0]))
    assert alone.ids.tolist() == before + [family.placeholder] + [NEWLINE] * t + after
    places = [len(before) + (h * w + 1) * i + h * w for i in range(t)]
    assert alone.positions[0, len(before) + 1 : len(before) + 1 + t].tolist() == places


def test_a_newline_that_begins_a_question_does_not_merge_with_the_videos(tmp_path, frames):
    family = open_family(str(nvila_checkpoint(tmp_path / "model")))
    grid = grid_of(family, encode(family, frames)["features"])
    prompter = Prompter(family)
    plain, newline = (prompter.ids(grid, question)[0].tolist() for question in ("w1", "\nw1  "))
    place = len(plain) - plain[::-1].index(family.placeholder)  # after the last visual token
    assert newline == [*plain[: place + 1], NEWLINE, *plain[place + 1 :]]


def test_other_words_of_the_video_encoder_are_written(tmp_path, frames):
    encoder = TSP | {"start_tokens": "w1 w2", "end_tokens": "w3", "sep_tokens": "w4"}
    family = open_family(str(nvila_checkpoint(tmp_path / "model", video_encoder=encoder)))
    grid = grid_of(family, encode(family, frames[:4])["features"])
    start, end, last = [VOCABULARY["w1"], VOCABULARY["w2"]], [VOCABULARY["w3"]], [VOCABULARY["w4"]]
    before, after = (family.tokenizer(text)["input_ids"] for text in family.prompt_text(grid, "how"))
    slot = [*start, *[family.placeholder] * 16, *end]
    assert Prompter(family).ids(grid, "how")[0].tolist() == [*before, *slot, *slot, *last, *after]


def test_the_named_chat_template_is_the_authors(tmp_path):
    family = open_family(str(nvila_checkpoint(tmp_path / "model", chat_template="qwen2")))
    grid = grid_of(family, torch.zeros(1, 4, 4, 48))
    assert family.prompt_text(grid, "w1 ") == (
        "<|im_start|>system\nYou are a helpful assistant<|im_end|>\n<|im_start|>user\n",
        "w1<|im_end|>\n<|im_start|>assistant\n",
    )


@pytest.mark.parametrize("known", [False, True], ids=["token added", "token in the files"])
def test_the_token_for_a_video_is_the_tokenizers_or_added(known, tmp_path):
    folder = nvila_checkpoint(tmp_path / "model")
    if known:
        tokenizer = AutoTokenizer.from_pretrained(folder / "llm")
        tokenizer.add_tokens(["<vila/sentinel>", "<vila/video>"], special_tokens=True)
        tokenizer.save_pretrained(folder / "llm")
    family = open_family(str(folder))
    assert family.placeholder == len(WORDS) + known
    grid = grid_of(family, torch.zeros(1, 4, 4, 48))
    rows = family.config.text_config.vocab_size
    for word in ("<vila/video>", "<vila/sentinel>")[: 1 + known]:
        ids, visual = Prompter(family).ids(grid, f"what is {word} ?")
        assert ids[visual < 0].max() < rows, "a token without an embedding came out of a question"


@pytest.mark.parametrize("whole", [True, False], ids=["tokenizer.json", "vocab.json and merges.txt"])
def test_the_tokenizer_is_qwen2s_whichever_files_are_there(whole, tmp_path):
    folder = nvila_checkpoint(tmp_path / "model")
    (folder / "llm" / "tokenizer.json").unlink()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("i", "s"), ("Ġ", "th"), ("Ġth", "is"), ("Ċ", "Ċ")]
    words = {text: i for i, text in enumerate([*letters, *("".join(pair) for pair in merges)])}
    special = {text: len(words) + i for i, text in enumerate(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])}
    (folder / "llm" / "vocab.json").write_text(json.dumps(words))
    (folder / "llm" / "merges.txt").write_text(
        "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)]) + "\n"
    )
    added = {str(i): {"content": text, "special": True} for text, i in special.items()}
    settings = {"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": added, "eos_token": "<|im_end|>"}
    (folder / "llm" / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": CHATML}))
    expected = Qwen2Tokenizer.from_pretrained(folder / "llm")
    if whole:
        expected.backend_tokenizer.save(str(folder / "llm" / "tokenizer.json"))
    family = open_family(str(folder))
    grid = grid_of(family, torch.zeros(3, 2, 2, 48))
    ids, visual = Prompter(family).ids(grid, "\n\nWhat's this? 1234\n\nthis.")
    before = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    after = "\n\nWhat's this? 1234\n\nthis.<|im_end|>\n<|im_start|>assistant\n"
    texts = [before, "\n", "\n", "\n", after]
    assert ids[visual < 0].tolist() == [token for text in texts for token in expected(text)["input_ids"]]
    assert family.placeholder == len(words) + len(special)
    assert family.generate_kwargs(None, 0)["eos_token_id"] == [special["<|im_end|>"]]
    assert {words["ĊĊ"], words["Ġthis"], special["<|im_end|>"]} < set(ids.tolist())


def test_every_method_runs_and_keeps_its_budget(family, tmp_path):
    done = every_method_keeps_its_budget(family, tmp_path)
    assert set(done) == {name for name in METHODS if not METHODS.load(name).keeps_all}


# --- loading --------------------------------------------------------------------------------------------------------


def published(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return {
        f"{file.parent.name}.{name}": tensor
        for file in folder.rglob("*.safetensors")
        for name, tensor in load_file(file).items()
    }


def test_what_is_loaded_is_what_is_published(family):
    vision = dict(load_vision(family, FP32).named_parameters())
    language = dict(load_language(family, FP32).named_parameters())
    ours = [*vision.values(), *language.values()]
    for name, tensor in published(family.checkpoint.path).items():
        if ".layers.3." not in name or not name.startswith("vision_tower"):
            assert any(t.shape == tensor.shape and torch.equal(t, tensor) for t in ours), name


@pytest.mark.parametrize(
    ("part", "tensor"),
    [
        ("mm_projector", "layers.2.weight"),
        ("vision_tower", "vision_model.encoder.layers.0.mlp.fc1.bias"),
    ],
)
def test_a_missing_tensor_is_named(part, tensor, tmp_path):
    from safetensors.torch import load_file, save_file

    file = nvila_checkpoint(tmp_path / "model") / part / "model.safetensors"
    tensors = load_file(file)
    del tensors[tensor]
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 tensors, e\.g\. "):
        VisionEncoder(open_family(str(tmp_path / "model")), FP32)


@pytest.mark.parametrize("part", ["llm", "vision_tower", "mm_projector"])
def test_a_missing_file_is_named_and_the_fingerprint_follows_every_folder(part, tmp_path):
    folder = nvila_checkpoint(tmp_path / "model")
    before = find_checkpoint(str(folder)).fingerprint
    other = nvila_checkpoint(tmp_path / "other", seed=1)
    file = sorted((folder / part).glob("*.safetensors"))[0]
    shutil.copy(other / part / file.name, file)
    assert find_checkpoint(str(folder)).fingerprint != before
    file.unlink()
    with pytest.raises(ModelError, match=f"lacks {part}/{file.name}"):
        _ = find_checkpoint(str(folder)).fingerprint
    with pytest.raises(ModelError, match=f"lacks {part}/{file.name}"):
        load_vision(open_family(str(folder)), FP32)


def test_the_fingerprint_follows_the_configuration_of_the_parts(tmp_path):
    folder = nvila_checkpoint(tmp_path / "model")
    before = find_checkpoint(str(folder)).fingerprint
    assert find_checkpoint(str(rewritten(folder, "llm/config.json", transformers_version="9"))).fingerprint == before
    assert find_checkpoint(str(rewritten(folder, "llm/config.json", rope_theta=3.0))).fingerprint != before


def test_a_download_takes_the_folders_and_no_code(tmp_path):
    folder = nvila_checkpoint(tmp_path / "model")
    files = [str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()]
    more = ["README.md", "modeling_vila.py", "llm/code.py", "vision_tower/pytorch_model.bin"]
    taken = filter_repo_objects([*files, *more], allow_patterns=checkpoints._PATTERNS)
    assert sorted(taken) == sorted(files)


def test_a_dummy_has_noise_in_the_same_shapes(tmp_path, frames):
    folder = nvila_checkpoint(tmp_path / "model")
    real = open_family(str(folder))
    parts = [{name: p.shape for name, p in load(real, FP32).named_parameters()} for load in LOADERS]
    for file in folder.rglob("*.safetensors*"):
        file.unlink()
    family = open_family(str(rewritten(folder, "config.json", **{DUMMY: True})))
    assert parts == [{name: p.shape for name, p in load(family, FP32).named_parameters()} for load in LOADERS]
    assert encode(family, frames)["features"].shape == (4, 4, 4, 48)


# --- recognising ----------------------------------------------------------------------------------------------------

#: NVILA-8B's published config.json, as far as it matters; the other checkpoints' projectors are those of the authors'
#: scripts (scripts/NVILA, scripts/NVILA-Lite), their LLMs the smaller and the larger Qwen2.5.
_QWEN2 = {
    "1.5B": {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "7B": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
    },
}
_TOWER = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "image_size": 448,
    "intermediate_size": 4304,
    "num_attention_heads": 16,
    "num_hidden_layers": 27,
    "patch_size": 14,
    "vision_use_head": False,
}


def config_of(folder: Path, size: str, projector: str, **changes: Any) -> Nvila:
    """A family that sees a config.json of the published sizes; there is nothing else in the folder."""
    folder.mkdir(exist_ok=True)
    config = {
        "architectures": ["LlavaLlamaModel"],
        "model_type": "llava_llama",
        "image_aspect_ratio": "dynamic",
        "mm_vision_select_feature": "cls_patch",
        "mm_vision_select_layer": -2,
        "llm_cfg": {
            "model_type": "qwen2",
            "num_hidden_layers": 28,
            "vocab_size": 151648,
            "rope_theta": 1000000.0,
            **_QWEN2[size],
        },
        "vision_tower_cfg": _TOWER,
        "mm_projector_cfg": {"mm_projector_type": projector},
    }
    (folder / "config.json").write_text(json.dumps(config | changes))
    return open_family(str(folder))


def _affine(width: int, out: int) -> int:
    return width * out + out


def _llm_size(width: int, mlp: int, keys: int, tables: int) -> int:
    """28 layers and a vocabulary of 151648 words."""
    attention = _affine(width, width) + 2 * _affine(width, keys) + width**2
    return 28 * (attention + 3 * width * mlp + 2 * width) + width + tables * 151648 * width


#: 26 of SigLIP's 27 layers, patches of 14 x 14 pixels, 32 x 32 positions, and the norm after the last layer.
_TOWER_SIZE = (
    26 * (4 * _affine(1152, 1152) + _affine(1152, 4304) + _affine(4304, 1152) + 4 * 1152)
    + _affine(3 * 14 * 14, 1152)
    + 1024 * 1152
    + 2 * 1152
)
_SMALL, _LARGE = _llm_size(1536, 8960, 256, tables=1), _llm_size(3584, 18944, 512, tables=2)


def _two_by_two(seen: int, out: int) -> int:
    return 2 * 4 * seen + _affine(4 * seen, out) + _affine(out, out)


def _three_by_three(seen: int, out: int) -> int:
    return 24 * seen + _affine(9 * seen, 3 * seen) + _affine(3 * seen, out) + _affine(out, out)


@pytest.mark.parametrize(
    ("size", "projector", "changes", "grid", "parts"),
    [
        (
            "7B",
            "mlp_downsample_2x2_fix",
            {"image_aspect_ratio": "resize", "video_encoder": TSP | {"pool_sizes": [[8, 1, 1]]}},
            (8, 16),
            (_TOWER_SIZE, _two_by_two(1152, 3584), _LARGE),
        ),
        (
            "7B",
            "mlp_downsample",
            {"image_aspect_ratio": "dynamic_s2", "dynamic_s2": True, "s2_scales": "448,896,1344"},
            (1, 16),
            (_TOWER_SIZE, _two_by_two(3456, 3584), _LARGE),
        ),
        ("7B", "mlp_downsample_3x3_fix", {}, (1, 11), (_TOWER_SIZE, _three_by_three(1152, 3584), _LARGE)),
        ("1.5B", "mlp_downsample_3x3_fix", {}, (1, 11), (_TOWER_SIZE, _three_by_three(1152, 1536), _SMALL)),
    ],
    ids=["NVILA-8B-Video", "NVILA-8B", "NVILA-Lite-8B", "NVILA-Lite-2B"],
)
def test_the_published_sizes(size, projector, changes, grid, parts, tmp_path):
    family = config_of(tmp_path / "model", size, projector, **changes)
    assert (family.frames_per_slot, family._side) == grid
    vision = family.config.vision_config
    assert (vision.num_hidden_layers, vision.image_size, vision.hidden_act) == (26, 448, "gelu_pytorch_tanh")
    assert set(family.config.text_config.layer_types) == {"full_attention"}
    with torch.device("meta"):
        model = NvilaForConditionalGeneration(family.config)
    tower, between, all_parts = (
        sum(parameter.numel() for parameter in module.parameters())
        for module in (model.model.vision_tower, model.model.multi_modal_projector, model)
    )
    assert (tower, between, all_parts - tower - between) == parts


@pytest.mark.parametrize(
    ("file", "changes", "part"),
    [
        ("llm/config.json", {"model_type": "llama"}, "LLM 'llama'"),
        ("vision_tower/config.json", {"model_type": "radio"}, "vision tower 'radio'"),
        ("mm_projector/config.json", {"mm_projector_type": "linear"}, "projector 'linear'"),
        ("config.json", {"video_encoder": {"_target_": "llava.OtherEncoder"}}, "video encoder 'OtherEncoder'"),
        ("config.json", {"video_encoder": TSP | {"pool_sizes": [[2, 1, 1], [1, 2, 2]]}}, "in 2 ways; one is supported"),
        ("config.json", {"video_encoder": {"_target_": TSP["_target_"]}}, "in 0 ways; one is supported"),
        ("config.json", {"video_encoder": TSP | {"pool_sizes": [[2, 3, 1]]}}, r"4 x 4 tokens, which .* not divide"),
        ("config.json", {"mm_vision_select_feature": "patch"}, "mm_vision_select_feature 'patch'"),
        ("config.json", {"mm_vision_select_feature": None}, "mm_vision_select_feature 'patch'"),
        ("config.json", {"image_aspect_ratio": "pad"}, "image_aspect_ratio 'pad'"),
        ("config.json", {"video_max_tiles": 4}, "video_max_tiles 4"),
        ("config.json", {"s2": True}, "s2 True"),
        ("config.json", {"ps3": True}, "ps3 True"),
        ("config.json", {"chat_template": "mistral"}, "chat_template 'mistral'"),
    ],
)
def test_what_is_not_supported_is_refused_with_a_sentence(file, changes, part, tmp_path):
    folder = rewritten(nvila_checkpoint(tmp_path / "model"), file, **changes)
    with pytest.raises(RequestError, match=part) as caught:
        open_family(str(folder))
    assert caught.value.hint


def test_a_video_encoder_that_is_not_json_is_refused(tmp_path):
    with pytest.raises(ModelError, match="not valid JSON"):
        open_family(str(nvila_checkpoint(tmp_path / "model", video_encoder="{")))


def test_a_checkpoint_without_its_preprocessor_is_refused(tmp_path, frames):
    folder = nvila_checkpoint(tmp_path / "model")
    (folder / "vision_tower" / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match=r"no vision_tower/preprocessor_config\.json"):
        preprocess(open_family(str(folder)), frames)


def test_a_grid_remembers_where_its_newlines_are(tmp_path):
    family = open_family(str(nvila_checkpoint(tmp_path / "model")))
    layout = family.layout_of((3, 4, 4))
    assert layout == replace(layout, before=(), between=((16, (NEWLINE,)), (32, (NEWLINE,))), after=(NEWLINE,))


def test_time_tokens_are_seconds_as_the_authors_decode_them(tmp_path, frames):
    """Of 99 s, <t12> is 12 s; of another length rounded to hundredths; above the last one is the end."""
    model = nvila_checkpoint(tmp_path / "model", num_time_tokens=100, time_token_format="<t{t}>")
    family = open_family(str(model))
    grid = grid_of(family, encode(family, frames)["features"])
    whole = replace(grid, seconds=(0.0, 2.0, 4.0, 6.0), source=replace(grid.source, seconds=7.0))
    for count, text, expected in (
        (99.0, "From <t12> to <t99>.", "From <12.0> to <99.0>."),
        (7.0, "<t0><t1><t50> <t100> t3 <t>", "<0.0><0.07><3.54> <7.0> t3 <t>"),
    ):
        shown = replace(whole, source=replace(whole.source, seconds=count))
        assert family.answer_text(text, shown) == expected
    part = replace(whole, period=1.5, seconds=(10.0, 11.5, 13.0, 14.5), source=replace(whole.source, seconds=60.0))
    assert family.answer_text("<t0> <t99>", part) == "<10.0> <16.0>"
    plain = open_family(str(nvila_checkpoint(tmp_path / "plain")))
    assert plain.answer_text("<t12>", whole) == "<t12>"


def test_answers_pass_through_the_familys_words(tmp_path, frames, monkeypatch):
    family = open_family(str(nvila_checkpoint(tmp_path / "model")))
    tokens = tokens_of(family, frames)
    said: list[str] = []
    conversation = Conversation(
        LanguageModel(family, FP32), tokens.grid, tokens.embeddings, torch.arange(tokens.grid.tokens)
    )
    plain = conversation.ask(QUESTIONS[0], max_new_tokens=6).text
    monkeypatch.setattr(Nvila, "answer_text", lambda self, text, grid: text.upper())
    shouted = conversation.ask(QUESTIONS[0], max_new_tokens=6, on_text=said.append).text
    assert plain and shouted == plain.upper() == "".join(said)
