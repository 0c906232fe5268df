"""The table of docs/models.md of what each step loads is what its script counts."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from stsimdiff_cli.models import FAMILIES

ROOT = Path(__file__).parents[2]
#: Parameters in the published weights of checkpoints without a preset; for the others see support/references.
PUBLISHED = {
    "Qwen/Qwen2-VL-2B-Instruct": 2_208_985_600,
    "Qwen/Qwen2-VL-7B-Instruct": 8_291_375_616,
    "Qwen/Qwen3-VL-2B-Instruct": 2_127_532_032,
    "Qwen/Qwen3-VL-4B-Instruct": 4_437_815_808,
    "Qwen/Qwen3-VL-30B-A3B-Instruct": 31_070_754_032,
    "OpenGVLab/InternVL3-1B-hf": 938_193_024,
    "HuggingFaceTB/SmolVLM2-500M-Video-Instruct": 507_482_304,
    "zai-org/GLM-4.6V-Flash": 10_292_777_472,
    "zai-org/GLM-4.5V": 107_710_933_120 - 45 * 128,  # without the experts' offsets, which transformers holds as buffers
    "zai-org/GLM-4.6V": 107_710_933_120 - 45 * 128,
    "allenai/Molmo2-4B": 4_850_869_200,
    "openbmb/MiniCPM-V-4.6": 1_300_428_016,
}
#: In billions, from the table of the authors' quick start: more is not published of these.
BILLIONS = {
    "OpenGVLab/InternVL3_5-1B-HF": 1.1,
    "OpenGVLab/InternVL3_5-2B-HF": 2.3,
    "OpenGVLab/InternVL3_5-4B-HF": 4.7,
    "OpenGVLab/InternVL3_5-8B-HF": 8.5,
    "OpenGVLab/InternVL3_5-14B-HF": 15.1,
}


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("benchmark_parameters", ROOT / "benchmarks" / "parameters.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_table_is_the_scripts(script):
    page = script.PAGE.read_text()
    assert script.PLACE.search(page)
    assert script.filled(page) == page, "run benchmarks/parameters.py"


def test_a_changed_table_is_noticed(script):
    page = script.PAGE.read_text()
    assert script.filled(page.replace("16.06 GB", "16.07 GB")) == page != page.replace("16.06 GB", "16.07 GB")


def test_every_checkpoint_that_the_families_name_has_a_row_or_is_left_out(script):
    named = {name for entry in FAMILIES.builtin.values() for name in entry.checkpoints}
    assert set(script.checkpoints()) == named - script.LEFT_OUT
    assert not script.LEFT_OUT & script.CONFIGS.keys()


def parameters_of(checkpoint: str, script, tmp_path: Path) -> int:
    """As transformers builds the model."""
    (tmp_path / "config.json").write_text(json.dumps(script.CONFIGS[checkpoint]))
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(tmp_path))
    model.tie_weights()
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("checkpoint", PUBLISHED)
def test_configurations_without_a_preset_have_the_published_number_of_parameters(checkpoint, script, tmp_path):
    assert parameters_of(checkpoint, script, tmp_path) == PUBLISHED[checkpoint]


@pytest.mark.parametrize("checkpoint", BILLIONS)
def test_where_only_billions_are_published_it_is_that_many(checkpoint, script, tmp_path):
    assert abs(parameters_of(checkpoint, script, tmp_path) / 1e9 - BILLIONS[checkpoint]) < 0.1


def test_steps_load_the_layers_and_tables_that_they_need(script):
    """By hand, for a checkpoint of 28 layers whose LM head is tied to its input embeddings."""
    loaded = script.counts(script.CONFIGS["Qwen/Qwen2-VL-2B-Instruct"])
    layer = 2 * 1536**2 + 2 * 1536 * 256 + 1536 + 2 * 256 + 3 * 1536 * 8960 + 2 * 1536
    table, norm = 151936 * 1536, 1536
    assert loaded["ask"] - loaded["importance"] == 26 * layer
    assert loaded["importance"] >= table + 2 * layer + norm
    vision = loaded["whole"] - table - 28 * layer - norm
    assert vision <= loaded["encode"] <= vision + 2 * norm  # a row of the input embeddings and the norm may stay
