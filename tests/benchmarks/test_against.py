"""benchmarks/against.py: a checkout's file is found, loaded without its imports, called, and its positions are read."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from benchmarks import against, published
from stsimdiff_cli.errors import RequestError
from stsimdiff_cli.ratio import parse_ratio

#: Keeps the first r N tokens of the video, however it is told what r is.
EVS = """
import torch
from einops import rearrange
from .elsewhere import Thing


class Other(Thing):
    pass


def compute_retention_mask(video_embeds, video_size_thw, spatial_merge_size, q):
    print("noise")
    return torch.arange(len(video_embeds)) < round(len(video_embeds) * (1 - q)) - 1
"""
VIDCOM2 = """
import torch


def vidcom2_compression(flattened_feat, model, base_scale, frame_token_len):
    indices = [torch.tensor([t]) for t in range(len(flattened_feat) // frame_token_len)]
    return flattened_feat[torch.cat(indices)]
"""
FRAMEFUSION = """
from torch import nn


class FrameFusion(nn.Module):
    def __init__(self, cost, similarity_lower_bound, ratio_lower_bound):
        super().__init__()
        self.cost = cost

    def prepare(self, patch_type, patch_num, start, end, length, original_length):
        self.keep = round(self.cost * length)

    def forward(self, hidden, positions, mask):
        hidden += 1
        return hidden[:, : self.keep], [p[:, : self.keep] for p in positions], mask
"""

#: Decorated by what is not there; the only layer gets the first two tokens of every frame.
FASTVID = """
import torch
from transformers.utils import add_start_docstrings, is_available, logging
from transformers import PreTrainedModel

if is_available():
    from flash import attention
logger = logging.get_logger(__name__)
marks = "fastvid_retention_ratio"


@add_start_docstrings("text", "more text")
class Qwen2Model(PreTrainedModel):
    @add_start_docstrings("text")
    def forward(self, inputs_embeds, **switches):
        keep = torch.arange(self.video_token_len).view(self.frame_num, -1)[:, :2].flatten()
        (layer,) = self.layers
        return (self.norm(layer(inputs_embeds[:, keep], attention_mask=None, position_ids=keep[None])[0]),)
"""
FLASHVID = """
from .configuration import Settings
from .token_selection import first


def flashvid_compression(features, attention, settings: Settings):
    features += 1
    index = first(features.flatten(0, 1), settings.retention_ratio)
    return features.flatten(0, 1)[index], index
"""
FIRST = """
import torch


def first(features, ratio):
    count = round(len(features) * ratio)
    return torch.cat([torch.arange(count), torch.tensor([count - 1])])  # the last one twice
"""


def checkout(folder: Path, name: str, text: str) -> Path:
    path = folder / published.ADAPTERS[name].file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return folder


@pytest.fixture
def tokens():
    return against.scene((4, 3, 5), 16, torch.float32)


def run(folder: Path, name: str, tokens, ratio: str = "0.5") -> dict:
    return against.compare(name, published.load(against.find(folder, [name])[name]), tokens, parse_ratio(ratio), 2)


def test_ours_keeps_as_many_tokens_as_theirs_and_the_common_ones_are_counted(tmp_path, tokens, capsys):
    line = run(checkout(tmp_path, "evs", EVS), "evs", tokens)
    assert (line["budget_ours"], line["kept_theirs"], line["kept_ours"]) == (30, 29, 29)
    assert line["agree"] >= 15, "both keep the first slot"
    assert line["agree"] < 29, "theirs keeps the second slot too, ours what differs"
    assert line["theirs_to_ours"]["from"] <= line["theirs_to_ours"]["median"] <= line["theirs_to_ours"]["to"]
    assert capsys.readouterr().out == "", "what the published function prints is dropped"


def test_positions_are_read_from_a_function_that_returns_only_features(tmp_path, tokens):
    module = published.load(against.find(checkout(tmp_path, "vidcom2", VIDCOM2), ["vidcom2"])["vidcom2"])
    call, read = published.ADAPTERS["vidcom2"].setup(module, tokens, parse_ratio("0.5"))
    assert read(call()).index.tolist() == [0, 15 + 1, 30 + 2, 45 + 3]
    assert sys.getprofile() is None


def test_a_function_that_works_in_place_leaves_our_tokens_alone(tmp_path, tokens):
    before = tokens.features.tensor().clone()
    line = run(checkout(tmp_path, "framefusion", FRAMEFUSION), "framefusion", tokens)
    assert torch.equal(tokens.features.tensor(), before)
    assert line["kept_theirs"] == 30
    assert line["largest_feature_difference"] >= 1, "theirs adds 1 to every feature"


def test_a_method_of_a_decorated_class_is_called_and_its_positions_are_read_in_its_layer(tmp_path, tokens):
    line = run(checkout(tmp_path, "fastvid", FASTVID), "fastvid", tokens)
    assert (line["kept_theirs"], line["kept_ours"], line["slots_of_equal_count"]) == (8, 8, 4)


def test_files_that_are_needed_next_to_a_file_are_loaded_and_a_position_counts_once(tmp_path, tokens):
    checkout(tmp_path, "flashvid", FLASHVID)
    path = against.find(tmp_path, ["flashvid"])["flashvid"]
    path.with_name("token_selection.py").write_text(FIRST)
    before = tokens.features.tensor().clone()
    module = published.load(path, published.ADAPTERS["flashvid"].siblings)
    line = against.compare("flashvid", module, tokens, parse_ratio("0.5"), 2)
    assert torch.equal(tokens.features.tensor(), before)
    assert (line["kept_theirs"], line["kept_ours"]) == (30, 30)


def test_without_a_method_everything_that_the_checkout_holds_is_compared(tmp_path):
    checkout(checkout(tmp_path, "evs", EVS), "vidcom2", VIDCOM2)
    assert list(against.find(tmp_path, [])) == ["evs", "vidcom2"]


@pytest.mark.parametrize("name", published.ADAPTERS)
def test_a_checkout_without_the_file_is_refused_with_the_file_and_the_repository(tmp_path, name):
    with pytest.raises(RequestError, match=published.ADAPTERS[name].file) as refused:
        against.find(tmp_path, [name])
    assert published.ADAPTERS[name].repository in refused.value.hint


def test_another_projects_file_of_the_same_name_is_refused(tmp_path):
    checkout(tmp_path, "vispruner", "class LlavaMetaForCausalLM: ...")
    with pytest.raises(RequestError, match="does not hold 'get_visual_token_num'"):
        against.find(tmp_path, ["vispruner"])
    with pytest.raises(RequestError, match="No published method"):
        against.find(tmp_path, [])


def test_an_unknown_method_and_a_missing_folder_are_refused(tmp_path):
    with pytest.raises(RequestError, match="no adapter for fastv"):
        against.find(tmp_path, ["fastv"])
    with pytest.raises(RequestError, match="There is no folder"):
        against.find(tmp_path / "nothing", [])


#: Found by running the published code.
RUNS = {(169, 52): False, (196, 59): False, (576, 127): False, (10, 4): False, (169, 51): True, (576, 128): True}


@pytest.mark.parametrize(("area", "number"), RUNS)
def test_vispruners_code_is_called_only_where_it_runs(area, number):
    assert published.defined(area, number) is RUNS[area, number]


def test_vispruner_gets_the_nearest_number_for_which_it_runs():
    assert parse_ratio("0.3").budget(196) == 59
    assert published.nearest(196, parse_ratio("0.3")) == 60


def test_fastvid_gets_as_many_tokens_as_its_anchors_have_places_for():
    # Of 196 tokens 0.45 are 88, of which 35 are anchors: 53 + 4 * 35 = 193 fit in. 90, 54 + 4 * 36 = 198, do not.
    assert [published.fitting(196, parse_ratio(r)) for r in ("0.3", "0.45", "0.46", "0.6")] == [58, 88, 89, 89]
    with pytest.raises(RequestError, match="three tokens a frame"):
        published.fitting(15, parse_ratio("0.1"))
