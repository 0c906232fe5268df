"""Checkpoints as people really have them: half downloaded, cloned without Git LFS, quantised, or in another format."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from stsimdiff_cli.errors import ModelError, RequestError, StsimdiffError
from stsimdiff_cli.models.families import open_family, preprocess
from stsimdiff_cli.models.loading.checkpoint import Checkpoint
from stsimdiff_cli.models.loading.weights import load_language, load_vision
from stsimdiff_cli.records import Sizing
from tests.hostile.checkpoints import run
from tests.support.checkpoints import CHECKPOINTS
from tests.support.runtimes import CPU, FP32

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab\nsize 3945441440\n"


@pytest.fixture(scope="module")
def intact(tmp_path_factory) -> Path:
    return CHECKPOINTS["qwen2_5_vl"](tmp_path_factory.mktemp("foreign") / "model")


@pytest.fixture
def copy(intact, tmp_path) -> Path:
    return Path(shutil.copytree(intact, tmp_path / "model"))


def change(file: Path, **entries: Any) -> None:
    """Change entries of a JSON file; None removes one."""
    content = json.loads(file.read_text()) | entries
    file.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


def refused(model: Path | str) -> StsimdiffError:
    """The error with which a checkpoint is refused, wherever that is noticed; it has a hint."""
    with pytest.raises(StsimdiffError) as error:
        run(Path(model))
    assert error.value.hint
    return error.value


@pytest.mark.parametrize("name", ["shard", "config.json", "preprocessor_config.json", "tokenizer.json"])
def test_a_git_lfs_pointer_is_called_one(name, copy):
    file = sorted(copy.glob("*.safetensors"))[1] if name == "shard" else copy / name
    file.write_text(POINTER)
    error = refused(copy)
    assert f"{file.name} of the checkpoint" in str(error) and "Git LFS pointer" in str(error)
    assert "git lfs pull" in str(error.hint)


@pytest.mark.parametrize("size", [0, 5, 300])
def test_an_empty_or_truncated_shard_is_named(size, copy):
    shard = sorted(copy.glob("*.safetensors"))[0]
    shard.write_bytes(shard.read_bytes()[:size])
    assert shard.name in str(refused(copy))


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", "[]"),
        ("config.json", '"qwen2_5_vl"'),
        ("config.json", '{"model_type": "qwen2_5_vl", "vision_config": [1], "text_config": "x"}'),
        ("preprocessor_config.json", "[1]"),
        ("preprocessor_config.json", '{"image_mean": "0.5"}'),
        ("chat_template.json", "[]"),
        ("chat_template.json", '{"chat_template": "{% for m in messages %}"}'),
        ("chat_template.json", '{"chat_template": "{{ 1 / 0 }}"}'),
        ("chat_template.json", '{"chat_template": 3}'),
        ("model.safetensors.index.json", '{"weight_map": []}'),
    ],
)
def test_files_with_other_things_in_them_are_a_sentence_and_a_hint(file, content, copy):
    (copy / file).write_text(content)
    refused(copy)


def test_the_class_of_a_model_may_be_named_without_a_list(tmp_path):
    folder = CHECKPOINTS["llava_video"](tmp_path / "model")
    change(folder / "config.json", architectures="LlavaQwenForCausalLM")
    assert open_family(str(folder)).name == "llava_video"


@pytest.mark.parametrize("name", sorted(CHECKPOINTS))
def test_mean_and_deviation_that_are_missing_are_those_of_transformers_class(name, tmp_path):
    """Held against the classes where these can be imported: the numbers of CLIP's paper, one half, or no change."""
    folder = CHECKPOINTS[name](tmp_path / "model")
    for file in folder.rglob("*processor_config.json"):
        change(file, image_mean=None, image_std=None)
    family = open_family(str(folder))
    expected = preprocess.HALF if name in HALF else preprocess.CLIP
    expected = preprocess.UNCHANGED if name == "gemma4" else expected
    assert {key: list(family._settings[key]) for key in expected} == expected
    pixels = family.preprocess(torch.zeros(2, 28, 28, 3, dtype=torch.uint8), Sizing(2), CPU)
    assert all(torch.isfinite(value.float()).all() for value in pixels.values())


HALF = {"video_llama_3", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe", "smolvlm", "nvila", "llava_video"}
HALF |= {"minicpmv4_6", "molmo2"}


@pytest.mark.processors
def test_transformers_classes_have_these_means():
    pytest.importorskip("torchvision", reason="transformers' video processors need torchvision")
    import transformers as t

    for made in (
        t.Qwen2VLVideoProcessor,
        t.LlavaOnevisionVideoProcessor,
        t.LlavaNextVideoVideoProcessor,
        t.InternVLVideoProcessor,
        t.Glm4vVideoProcessor,
        t.Glm46VVideoProcessor,
    ):
        assert {"image_mean": list(made.image_mean), "image_std": list(made.image_std)} == preprocess.CLIP
    for made in (
        t.Qwen3VLVideoProcessor,
        t.SmolVLMVideoProcessor,
        t.VideoLlama3VideoProcessor,
        t.SiglipImageProcessor,
        t.MiniCPMV4_6VideoProcessor,
        t.Molmo2VideoProcessor,
    ):
        assert {"image_mean": list(made.image_mean), "image_std": list(made.image_std)} == preprocess.HALF
    made = t.Gemma4VideoProcessor
    assert {"image_mean": list(made.image_mean), "image_std": list(made.image_std)} == preprocess.UNCHANGED


@pytest.mark.parametrize(
    ("method", "package"),
    [
        ("gptq", "gptqmodel"),
        ("awq", "gptqmodel"),
        ("compressed-tensors", "compressed_tensors"),
        ("bitsandbytes", "bitsandbytes"),
        ("fp8", "accelerate"),
    ],
)
def test_weights_that_are_stored_quantised_name_the_package_and_the_plain_checkpoint(
    method, package, copy, monkeypatch
):
    monkeypatch.setattr("stsimdiff_cli.models.loading.quantize.find_spec", lambda _: None)
    change(copy / "config.json", quantization_config={"quant_method": method, "bits": 4})
    folder = copy.rename(copy.with_name("Some-Model-7B-AWQ"))
    for load in (load_vision, load_language):
        with pytest.raises(ModelError, match=f"quantised .{method}.*{package}") as error:
            load(open_family(str(folder)), FP32)
        assert f"pip install {package}" in str(error.value.hint) and "Some-Model-7B;" in str(error.value.hint)


@pytest.mark.parametrize(
    ("model_type", "twin"),
    [
        ("internvl_chat", "OpenGVLab/InternVL3-8B-hf"),
        ("videollama3_qwen2", "lkhl/VideoLLaMA3-7B-Image-HF"),
        ("nvila", "without -hf-preview"),
    ],
)
def test_a_checkpoint_that_needs_its_own_code_names_its_twin(model_type, twin, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, "architectures": ["Own"]}))
    with pytest.raises(RequestError, match="not supported") as error:
        open_family(str(tmp_path))
    assert twin in str(error.value.hint)


def test_the_original_onevision_names_its_twin(tmp_path):
    folder = CHECKPOINTS["llava_video"](tmp_path / "model", mm_newline_position="one_token")
    with pytest.raises(RequestError) as error:
        open_family(str(folder))
    assert "llava-hf/llava-onevision" in str(error.value.hint)


def test_half_a_download_names_the_command(copy):
    sorted(copy.glob("*.safetensors"))[0].unlink()
    config = json.loads((copy / "config.json").read_text())
    with pytest.raises(ModelError) as error:
        Checkpoint("owner/name", copy, "0" * 40, "qwen2_5_vl", config).weight_files()
    assert "hf download owner/name" in str(error.value.hint)
