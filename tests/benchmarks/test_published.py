"""The paper's tables: copied without a slip, and given to the right models."""

from __future__ import annotations

import itertools
import json

import pytest

from stsimdiff_cli.evaluation.paper_results import rows, which
from stsimdiff_cli.evaluation.tasks import TASKS
from stsimdiff_cli.methods import METHODS
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.loading.checkpoint import DUMMY
from stsimdiff_cli.models.loading.presets import find_preset

BLOCKS = [("LLaVA-Video-7B", 64), ("NVILA-8B-Video", 64), ("Qwen2.5-VL-7B", 64), ("Qwen2.5-VL-7B", 128)]
EVERY = [row for model, frames in BLOCKS for row in rows(model, frames)]


def cell(model, frames, method, ratio, benchmark, column):
    matching = [row for row in rows(model, frames) if (row.method, row.ratio) == (method, ratio)]
    assert len(matching) == 1
    return matching[0].scores[benchmark][column]


@pytest.mark.parametrize(
    ("where", "score"),
    [
        (("LLaVA-Video-7B", 64, "vanilla", "1", "videomme", "Overall"), 63.3),
        (("LLaVA-Video-7B", 64, "framefusion", "0.3", "longvideobench", "Perception"), 63.3),
        (("LLaVA-Video-7B", 64, "st-simdiff", "0.5", "videomme", "Medium"), 62.4),
        (("NVILA-8B-Video", 64, "prumerge", "0.3", "videomme", "Long"), 49.9),
        (("NVILA-8B-Video", 64, "framefusion", "0.5", "egoschema", "Overall"), 52.6),
        (("NVILA-8B-Video", 64, "st-simdiff", "0.3", "videomme", "Short"), 73.3),
        (("Qwen2.5-VL-7B", 64, "vanilla", "1", "longvideobench", "Relation"), 54.2),
        (("Qwen2.5-VL-7B", 128, "st-simdiff", "0.5", "videomme", "Medium"), 66.3),
    ],
)
def test_cells_read_from_the_paper(where, score):
    assert cell(*where) == score


def test_each_block_is_complete():
    assert [len(rows(*block)) for block in BLOCKS] == [13, 13, 3, 3]
    assert {row.table for row in EVERY} == {1, 2, 4}
    assert rows("LLaVA-Video-7B", 128) == []
    for row in EVERY:
        assert row.method in METHODS and row.ratio in ("1", "0.3", "0.5")
        for benchmark, scores in row.scores.items():
            columns = TASKS.load(benchmark).columns
            assert list(scores) == (list(columns) if row.ratio != "1" or row.table == 4 else ["Overall"])


def test_overall_follows_from_its_columns():
    """A copying mistake would break the sums, which hold up to rounding in all rows but one.

    Video-MME's three columns have 900 questions each. Of LongVideoBench's 46 % are about perception: the share that
    fits the tables.
    """
    astray = []
    for row in EVERY:
        video, long = row.scores["videomme"], row.scores["longvideobench"]
        if "Short" not in video:
            continue
        if abs(video["Overall"] - (video["Short"] + video["Medium"] + video["Long"]) / 3) > 0.11:
            astray.append((row.model, row.method, row.ratio))
        assert abs(long["Overall"] - 0.465 * long["Perception"] - 0.535 * long["Relation"]) < 0.15
    assert astray == [("NVILA-8B-Video", "fastv", "0.5")]  # the paper prints 58.9, its columns have the mean 59.8


@pytest.mark.parametrize(
    ("preset", "model"),
    [
        ("llava-video-7b", "LLaVA-Video-7B"),
        ("nvila-8b-video", "NVILA-8B-Video"),
        ("qwen2.5-vl-7b", "Qwen2.5-VL-7B"),
        ("qwen2.5-vl-3b", None),
        ("internvl3-8b", None),  # a Qwen2.5 of the same sizes in another family
    ],
)
def test_which_model_of_the_paper(tmp_path, preset, model):
    (tmp_path / "config.json").write_text(json.dumps(find_preset(preset).config))
    assert which(open_family(str(tmp_path))) == model


def test_relatives_are_not_the_papers_models(tmp_path):
    def model_of(config):
        (tmp_path / "config.json").write_text(json.dumps(config))
        return which(open_family(str(tmp_path)))

    nvila = find_preset("nvila-8b-video").config
    assert model_of(nvila | {"mm_projector_cfg": {"mm_projector_type": "mlp_downsample_3x3_fix"}}) is None
    assert model_of(nvila | {DUMMY: True}) is None
    qwen = find_preset("qwen2.5-vl-7b").config
    flat = {k: v for k, v in itertools.chain(qwen["text_config"].items(), qwen.items()) if k != "text_config"}
    assert model_of(flat) == "Qwen2.5-VL-7B"  # as its authors write it
    assert which(open_family("tiny")) is None
