"""LLaVA-Video against a plain forward pass written from its published description."""

from __future__ import annotations

import itertools
import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForImageTextToText, Qwen2Tokenizer
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from stsimdiff_cli.errors import ModelError, RequestError
from stsimdiff_cli.methods import METHODS
from stsimdiff_cli.methods.spec import parse_method
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.families.llava_video import LlavaVideo
from stsimdiff_cli.models.inference.conversation import Conversation, PrunedConversation
from stsimdiff_cli.models.inference.language_model import LanguageModel
from stsimdiff_cli.models.inference.prompts import Prompter
from stsimdiff_cli.models.inference.vision_encoder import VisionEncoder
from stsimdiff_cli.models.loading.checkpoint import DUMMY, find_checkpoint
from stsimdiff_cli.models.loading.weights import load_language, load_vision
from stsimdiff_cli.ratio import parse_ratio
from stsimdiff_cli.records import Source
from tests.support.checkpoints.llava_video import llava_video_checkpoint
from tests.support.checkpoints.parts import QUESTIONS, VOCABULARY
from tests.support.clip_factory import render
from tests.support.commands import refused, run
from tests.support.family_checks import every_method_keeps_its_budget
from tests.support.references.llava_video import LlavaVideoReference
from tests.support.references.published_sizes import PARAMETERS
from tests.support.runtimes import FP32
from tests.support.whole_models import encode, grid_of, preprocess, tokens_of

MODES = {"bilinear": (4, 5), "average": (3, 4)}  # rows and columns of 7 x 7 patches, newlines included


@pytest.fixture(scope="module", params=MODES)
def family(request, tmp_path_factory) -> LlavaVideo:
    folder = llava_video_checkpoint(tmp_path_factory.mktemp(request.param), mm_spatial_pool_mode=request.param)
    return open_family(str(folder))


@pytest.fixture(scope="module")
def reference(family) -> LlavaVideoReference:
    return LlavaVideoReference(family.checkpoint.path)


@pytest.fixture
def pixels(family, frames) -> torch.Tensor:
    return preprocess(family, frames)["pixel_values_videos"][0]


def config_of(folder: Path, **changes) -> LlavaVideo:
    """A family that sees a config.json of these entries; there is nothing else in the folder."""
    config = {
        DUMMY: True,  # or weights would be missed
        "architectures": ["LlavaQwenForCausalLM"],
        "model_type": "llava",
        "mm_vision_tower": "google/siglip-so400m-patch14-384",
        "mm_projector_type": "mlp2x_gelu",
        "mm_newline_position": "grid",
        "mm_spatial_pool_mode": "bilinear",
        "mm_spatial_pool_stride": 2,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "rope_theta": 1000000.0,
        "rope_scaling": {"type": "linear", "factor": 2.0},
        "vocab_size": 152064,
        "tie_word_embeddings": False,
    }
    (folder / "config.json").write_text(json.dumps({k: v for k, v in (config | changes).items() if v is not None}))
    return open_family(str(folder))


# --- vision ---------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def test_features_equal_the_reference_with_the_newline_as_last_column(family, reference, frames, pixels):
    features = encode(family, frames, chunk=3)["features"]
    assert features.shape == (7, *MODES[family._entry("mm_spatial_pool_mode")], 48)
    torch.testing.assert_close(features, reference.features(pixels), rtol=1e-4, atol=1e-4)
    newline = reference.tensors["model.image_newline"]
    is_newline = (features == newline).all(-1)
    assert is_newline[:, :, -1].all() and not is_newline[:, :, :-1].any()


def test_saliency_and_keys_are_pooled_like_features_and_a_newline_has_the_mean_of_its_row(
    family, reference, frames, pixels
):
    evidence = encode(family, frames, chunk=3, evidence=("saliency", "keys"))
    _, saliency, keys = reference.tower(pixels)
    for name, patches in (("saliency", saliency[..., None]), ("keys", keys)):
        got = evidence[name].flatten(3) if name == "keys" else evidence[name][..., None]
        torch.testing.assert_close(got[:, :, :-1], reference.pool(patches), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(got[:, :, -1], reference.pool(patches).mean(2), rtol=1e-4, atol=1e-5)


def test_pixels_equal_siglips_image_processor_at_384(tmp_path, frames):
    from PIL import Image

    family = config_of(tmp_path)
    expected = SiglipImageProcessorPil(size={"height": 384, "width": 384})(
        [Image.fromarray(frame.numpy()) for frame in frames], return_tensors="pt"
    )["pixel_values"]
    got = preprocess(family, frames)["pixel_values_videos"][0]
    assert got.shape == (7, 3, 384, 384)
    steps = (got - expected).abs() * 0.5 * 255  # in 8-bit levels
    assert steps.max() < 2.1 and steps.mean() < 0.2


@pytest.mark.parametrize(("mode", "side"), [("bilinear", 14), ("average", 13)])
def test_the_published_tower_has_27_by_27_patches(mode, side, tmp_path):
    family = config_of(tmp_path, mm_spatial_pool_mode=mode)
    vision = family.config.vision_config
    assert (vision.image_size // vision.patch_size) ** 2 == 729
    grid = family.to_grid(None, torch.rand(2 * 729, 3), {"pixel_values_videos": torch.zeros(1, 2, 1)})
    assert grid.shape == (2, side, side + 1, 3)


# --- language -------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def test_greedy_answers_equal_the_reference_token_for_token(family, reference, frames, pixels):
    tokens = tokens_of(family, frames)
    grid = tokens.grid
    language = LanguageModel(family, FP32)
    expected_features = reference.features(pixels)
    everything = torch.arange(grid.tokens)
    kept = everything[torch.rand(grid.tokens, generator=torch.Generator().manual_seed(3)) < 0.3]
    seen = set()
    for index, question in itertools.product((everything, kept), QUESTIONS):
        ids, visual = language.prompter.ids(grid, question)
        stays = (visual < 0) | torch.isin(visual, index)
        positions = torch.arange(len(ids))[stays]  # dropping tokens moves no other
        expected = reference.greedy(expected_features, ids[stays], visual[stays], positions, 16)
        conversation = Conversation(language, grid, tokens.embeddings[index], index)
        answer = conversation.ask(question, max_new_tokens=16)
        assert answer.text == language.prompter.tokenizer.decode(expected, skip_special_tokens=True)
        assert answer.tokens == len(expected)
        prompt = language.prompter.prompt(language.model, grid, question, index)
        assert torch.equal(prompt.positions, positions[None])
        seen.add(answer.text)
    assert len(seen) > 3, "a random model that always says the same proves nothing"


def test_the_penalty_for_repeating_is_felt_and_does_not_count_the_prompt(family, reference, frames, pixels):
    """Without it, or with the prompt counted in, a greedy answer is another."""
    tokens = tokens_of(family, frames)
    grid = tokens.grid
    language = LanguageModel(family, FP32, attention_rows=True)
    conversation = Conversation(language, grid, tokens.embeddings, torch.arange(grid.tokens))
    method = parse_method("fastv")
    pruned = PrunedConversation(language, tokens, lambda: method.layer_pruner(tokens, parse_ratio(1)))
    said = [conversation.ask(question, max_new_tokens=30).text for question in QUESTIONS]
    assert said == [pruned.ask(question, max_new_tokens=30).text for question in QUESTIONS]
    assert max(len(set(text.split())) for text in said) > 3
    for penalty in (1.0, 1.3):
        language.model.generation_config.repetition_penalty = penalty
        language.family.generate_kwargs = lambda *_: {}
        language.rules.cache_clear()
        try:
            assert said != [conversation.ask(question, max_new_tokens=30).text for question in QUESTIONS]
        finally:
            del language.family.generate_kwargs
            language.model.generation_config.repetition_penalty = 1.3


def test_the_prompt_is_the_authors_to_the_letter(family, frames):
    features = encode(family, frames[:3])["features"]
    source = Source("clip", 1, "", 12.345, 25.0, 309, 60, 45, "pyav")
    grid = replace(grid_of(family, features), seconds=(0.0, 6.1, 12.306), source=source)
    prompter = Prompter(family)
    ids, visual = prompter.ids(grid, "w1 ?")
    before = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    after = (
        "\nThe video lasts for 12.35 seconds, and 3 frames are uniformly sampled from it. These frames are located at "
        "0.00s,6.10s,12.31s.Please answer the following questions related to this video.\nw1 ?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert family.prompt_text(grid, "w1 ?") == (before, after)
    begin, end = (prompter.tokenizer(text)["input_ids"] for text in (before, after))
    assert ids.tolist() == begin + [VOCABULARY["<video>"]] * grid.tokens + end
    assert visual.tolist() == [-1] * len(begin) + list(range(grid.tokens)) + [-1] * len(end)


def test_without_the_time_instruction_the_question_stands_alone(tmp_path, frames):
    family = config_of(tmp_path, add_time_instruction=False)
    _, after = family.prompt_text(grid_of(family, torch.zeros(1, 14, 15, 8)), "What ?")
    assert after == "\nWhat ?<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("whole", [True, False], ids=["tokenizer.json", "vocab.json and merges.txt"])
def test_the_tokenizer_is_qwen2s_whichever_files_are_there(whole, tmp_path):
    """transformers' own choice for `model_type` llava knows nothing of vocab.json and merges.txt."""
    config_of(tmp_path)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("i", "s"), ("Ġ", "th"), ("Ġth", "is"), ("1", "2")]
    words = {text: i for i, text in enumerate([*letters, *("".join(pair) for pair in merges)])}
    special = {text: len(words) + i for i, text in enumerate(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])}
    (tmp_path / "vocab.json").write_text(json.dumps(words))
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)]) + "\n")
    added = {str(i): {"content": text, "special": True} for text, i in special.items()}
    settings = {"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": added, "eos_token": "<|im_end|>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    expected = Qwen2Tokenizer.from_pretrained(tmp_path)
    if whole:
        expected.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    family = open_family(str(tmp_path))
    grid = grid_of(family, torch.zeros(1, 14, 15, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ids, visual = Prompter(family).ids(grid, "What's this? 1234\n\nthis.")
    before, after = family.prompt_text(grid, "What's this? 1234\n\nthis.")
    assert ids[visual < 0].tolist() == [token for text in (before, after) for token in expected(text)["input_ids"]]
    assert special["<|im_end|>"] in ids and words["Ġthis"] in ids


def test_every_method_runs_and_keeps_its_budget(family, tmp_path):
    done = every_method_keeps_its_budget(family, tmp_path)
    assert set(done) == {name for name in METHODS if not METHODS.load(name).keeps_all}


# --- loading --------------------------------------------------------------------------------------------------------


def test_each_step_reads_only_its_tensors(family, reference, read):
    published = set(reference.tensors)
    layers = {name for name in published if name.startswith("model.layers.")}
    ends = {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}
    vision = {name for name in published if name.startswith(("model.vision_tower.", "model.mm_projector."))}

    load_vision(family, FP32)
    assert set(read) == published - layers - ends == vision | {"model.image_newline"}
    read.clear()
    load_language(family, FP32)
    assert set(read) == published - vision
    read.clear()
    load_language(family, FP32, layers=1)
    first = {name for name in layers if name.startswith("model.layers.0.")}
    assert set(read) == first | ends - {"lm_head.weight"} | {"model.image_newline"}


def test_what_is_loaded_is_what_is_published(family, reference):
    vision = dict(load_vision(family, FP32).named_parameters())
    language = dict(load_language(family, FP32).named_parameters())
    ours = [torch.sort(t.flatten()).values for t in [*vision.values(), *language.values()]]
    for name, tensor in reference.tensors.items():
        expected = torch.sort(tensor.flatten()).values
        assert any(torch.equal(expected, t) for t in ours if t.shape == expected.shape), name


def test_a_missing_tensor_is_named(tmp_path):
    from safetensors.torch import load_file, save_file

    llava_video_checkpoint(tmp_path / "model")
    index = json.loads((tmp_path / "model" / "model.safetensors.index.json").read_text())
    file = tmp_path / "model" / index["weight_map"]["model.mm_projector.0.weight"]
    tensors = load_file(file)
    del tensors["model.mm_projector.0.weight"]
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 tensors, e\.g\. .*projector"):
        VisionEncoder(open_family(str(tmp_path / "model")), FP32)


# --- recognising ----------------------------------------------------------------------------------------------------


def test_the_published_sizes_are_those_of_siglip_so400m_and_qwen2(tmp_path):
    """CLIP's sizes, which transformers' class for `llava` leaves in a config.json, are not the tower's."""
    leftovers = {"vision_config": {"model_type": "clip_vision_model", "hidden_size": 1024, "image_size": 336}}
    for extra in ({}, leftovers | {"text_config": {"model_type": "llama"}, "model_type": "llava_qwen"}):
        config = config_of(tmp_path, **extra).config
        vision, text = config.vision_config, config.text_config
        assert (vision.hidden_size, vision.intermediate_size, vision.num_attention_heads) == (1152, 4304, 16)
        assert (vision.num_hidden_layers, vision.image_size, vision.patch_size) == (26, 384, 14)
        assert (vision.hidden_act, vision.layer_norm_eps) == ("gelu_pytorch_tanh", 1e-6)
        assert (text.model_type, text.hidden_size, text.num_hidden_layers) == ("qwen2", 3584, 28)
        assert text.rope_parameters == {"rope_type": "default", "rope_theta": 1000000.0}
        assert set(text.layer_types) == {"full_attention"}
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS["llava-video-7b"]


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"mm_vision_tower": "openai/clip-vit-large-patch14-336"}, "not SigLIP"),
        ({"mm_vision_tower": None}, "not SigLIP"),
        ({"mm_projector_type": "linear"}, "mm_projector_type = 'linear'"),
        ({"mm_spatial_pool_mode": "max"}, "mm_spatial_pool_mode = 'max'"),
        ({"mm_newline_position": "frame"}, "mm_newline_position = 'frame'"),
        ({"mm_newline_position": None}, "mm_newline_position = 'one_token'"),
        ({"add_faster_video": True}, "add_faster_video = True"),
        ({"architectures": ["LlavaForConditionalGeneration"]}, "'llava' LlavaForConditionalGeneration"),
        ({"architectures": ["LlavaLlamaForCausalLM"]}, "LlavaLlamaForCausalLM"),
        ({"architectures": None}, "'llava'"),
    ],
)
def test_other_checkpoints_of_the_format_are_refused(changes, part, tmp_path):
    with pytest.raises(RequestError, match=part) as caught:
        config_of(tmp_path, **changes)
    assert caught.value.hint


def test_the_families_name_is_no_model_type(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llava_video"}')
    with pytest.raises(RequestError, match="not supported"):
        find_checkpoint(str(tmp_path))


# --- options of a model's name --------------------------------------------------------------------------------------


def test_options_are_what_the_configuration_could_say(tmp_path, frames):
    """The authors' evaluation overrides the pooling of the checkpoint, and lmms-eval's class writes no times."""
    plain = llava_video_checkpoint(tmp_path / "plain")
    changed = llava_video_checkpoint(tmp_path / "changed", mm_spatial_pool_mode="average", add_time_instruction=False)
    named, stored = open_family(f"{plain}:pool=average,times=off"), open_family(str(changed))
    assert torch.equal(encode(named, frames)["features"], encode(stored, frames)["features"])
    grid = grid_of(stored, encode(stored, frames)["features"])
    without, given = (one.prompt_text(grid, "w1") for one in (open_family(str(plain)), stored))
    assert named.prompt_text(grid, "w1") == given != without
    assert named.checkpoint.fingerprint != open_family(str(plain)).checkpoint.fingerprint
    again = open_family(named.checkpoint.local)
    assert again.checkpoint.fingerprint == named.checkpoint.fingerprint and again.checkpoint.id == named.checkpoint.id


def test_a_file_remembers_the_options_of_its_model(tmp_path, capsys):
    clip, model = render(tmp_path / "clip.mp4", range(6)), llava_video_checkpoint(tmp_path / "model")
    file = tmp_path / "t.safetensors"
    assert run(capsys, "encode", clip, "-o", file, "--model", f"{model}:times=off,pool=average", "--frames", 4)[0] == 0
    assert run(capsys, "ask", file, QUESTIONS[0], "--max-new-tokens", 2)[0] == 0
    _, out, _ = run(capsys, "inspect", file, "--json")
    assert json.loads(out)["model"]["id"].endswith(":pool=average,times=off")
    assert "another model" in refused(capsys, "ask", file, QUESTIONS[0], "--model", model)


@pytest.mark.parametrize("options", ["pool=max", "size=3", "pool=average,times=maybe"])
def test_options_that_do_not_exist_are_refused(options, tmp_path):
    config_of(tmp_path)
    with pytest.raises(RequestError, match="has no option") as error:
        open_family(f"{tmp_path}:{options}")
    assert "pool=average|bilinear" in str(error.value.hint)
    with pytest.raises(RequestError, match="no option pool=average"):
        open_family("tiny:pool=average")
