"""Qwen3-VL: what the tests of every family do not cover."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen3VLProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import smart_resize

from stsimdiff_cli import pipeline
from stsimdiff_cli.errors import FileFormatError, VideoError
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.families.qwen3_vl import Qwen3VL
from stsimdiff_cli.models.inference.conversation import Conversation
from stsimdiff_cli.models.inference.language_model import LanguageModel
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.models.loading.weights import load_language
from stsimdiff_cli.records import Frames, FrameSize, FrameStream, Sizing, Source, VideoTokens
from stsimdiff_cli.storage.reading import StoredVideo, load
from stsimdiff_cli.storage.tensor_file import checksum
from stsimdiff_cli.storage.writing import save_compressed, save_tokens
from stsimdiff_cli.token_features import DenseFeatures
from tests.support.checkpoints.parts import QUESTIONS
from tests.support.checkpoints.qwen3_vl import qwen3_vl_checkpoint
from tests.support.runtimes import FP32
from tests.support.whole_models import encode, preprocess, tokens_of, whole_model


@pytest.fixture(scope="module")
def qwen(tmp_path_factory) -> Qwen3VL:
    return open_family(str(qwen3_vl_checkpoint(tmp_path_factory.mktemp("qwen3_vl") / "model")))


# --- frames ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 4, 5, 7, 64, 769])
@pytest.mark.parametrize(("height", "width"), [(45, 60), (60, 45), (480, 640), (7, 300), (16, 16), (5, 5)])
def test_frames_get_the_size_of_transformers_video_processor(qwen, count, height, width):
    expected = smart_resize(count, height, width, 2, 8, 16 * 16, 4 * 48 * 48)
    assert qwen.size(height, width, Sizing(count)) == expected


def test_a_single_frame_has_the_size_of_two(qwen):
    assert qwen.size(45, 60, Sizing(1)) == qwen.size(45, 60, Sizing(2))


def test_frames_are_capped_one_by_one_where_the_checkpoint_says_so(tmp_path):
    """min(max_video_tokens tokens, an even share of the budget), but at least 1.05 times the least size."""
    capped = open_family(str(qwen3_vl_checkpoint(tmp_path / "model", cap_pixels_per_frame=True, max_video_tokens=10)))
    for count, most in ((2, 10 * 64), (64, int(256 * 1.05))):
        assert capped.size(480, 640, Sizing(count)) == smart_resize(count, 480, 640, 2, 8, 256, most * count)


def test_a_users_bounds_are_those_of_a_frame(qwen):
    """The checkpoint's most pixels of a video, 9216, hold nevertheless."""
    for asked, count, most in ((FrameSize(None, 640), 4, 4 * 640), (FrameSize(None, 10**6), 4, 9216)):
        assert qwen.size(480, 640, Sizing(count, asked)) == smart_resize(count, 480, 640, 2, 8, 256, most)
    assert qwen.size(8, 8, Sizing(4, FrameSize(1024))) == (32, 32) != qwen.size(8, 8, Sizing(4))


def test_frames_of_an_extreme_shape_are_refused(qwen):
    with pytest.raises(VideoError, match="200 : 1"):
        qwen.size(8, 1700, Sizing(1))


def test_the_size_is_that_of_the_whole_video_and_not_of_a_chunk(qwen, frames, monkeypatch):
    parts = [Frames(frames[i : i + 3], tuple(0.5 * k for k in range(i, min(i + 3, 7)))) for i in (0, 3, 6)]
    source = Source("clip", 1, "", 3.5, 2.0, 7, 60, 45, "pyav")
    model = str(qwen.checkpoint.path)
    monkeypatch.setattr(pipeline, "CHUNK", 2)
    tokens = pipeline.encode_frames(FrameStream(source, 7, parts), model, Runtime(device="cpu"))
    assert tokens.grid.shape == (4, *(side // 8 for side in qwen.size(45, 60, Sizing(7))))
    assert qwen.size(45, 60, Sizing(7)) != qwen.size(45, 60, Sizing(2))
    torch.testing.assert_close(tokens.features.tensor(), encode(qwen, frames)["features"], rtol=1e-4, atol=1e-4)


# --- the prompt -----------------------------------------------------------------------------------------------------


def test_the_prompt_is_that_of_transformers_processor(qwen, frames):
    """Times are the middle of each slot; an odd last frame stands for itself."""
    parts = [Frames(frames, tuple(k / 2 for k in range(7)))]
    source = Source("clip", 1, "", 3.5, 2.0, 7, 60, 45, "pyav")
    tokens = pipeline.encode_frames(FrameStream(source, 7, parts), str(qwen.checkpoint.path), Runtime(device="cpu"))
    assert tokens.grid.seconds == (0.25, 1.25, 2.25, 3.0)
    t, h, w = tokens.grid.shape
    language = LanguageModel(qwen, FP32)
    theirs = object.__new__(Qwen3VLProcessor)  # its video processor cannot be made without torchvision
    theirs.tokenizer = language.prompter.tokenizer
    theirs.video_token, theirs.vision_start_token = "<|video_pad|>", "<|vision_start|>"
    theirs.vision_end_token = "<|vision_end|>"

    class Sizes:
        merge_size = temporal_patch_size = 2

    class Metadata:
        fps, frames_indices = 2.0, list(range(7))

    theirs.video_processor = Sizes()
    inputs = {"video_grid_thw": torch.tensor([[t, 2 * h, 2 * w]]), "video_metadata": [Metadata()]}
    video = theirs.replace_video_token(inputs, 0)
    text = f"<|im_start|>user\n<|vision_start|>{video}<|vision_end|>{QUESTIONS[0]}<|im_end|>\n<|im_start|>assistant\n"
    ids, visual = language.prompter.ids(tokens.grid, QUESTIONS[0])
    assert ids.tolist() == language.prompter.tokenizer(text)["input_ids"]
    assert int((visual >= 0).sum()) == t * h * w and "0.2 seconds" in video


def test_positions_of_every_slot_start_after_its_time_stamp(qwen, frames):
    """Row, column and time of a slot count from the position after the text before it."""
    tokens = tokens_of(qwen, frames)
    language = LanguageModel(qwen, FP32)
    prompt = language.prompter.prompt(language.model, tokens.grid, "w3", torch.arange(tokens.grid.tokens))
    _, h, w = tokens.grid.shape
    place = 0
    expected = torch.empty(3, len(prompt.ids), dtype=torch.int64)
    for i, token in enumerate(prompt.visual.tolist()):
        row, column = divmod(token % (h * w), w)
        if token < 0:
            expected[:, i] = place
            place += 1
        else:
            expected[:, i] = torch.tensor([place, place + row, place + column])
            place += max(h, w) if (row, column) == (h - 1, w - 1) else 0
    assert torch.equal(prompt.positions[1:], expected)
    assert prompt.positions[0].tolist() == list(range(len(prompt.ids)))


# --- deepstack ------------------------------------------------------------------------------------------------------


def test_deepstack_features_are_the_models_own_and_matter(qwen, frames):
    out = encode(qwen, frames)
    model = whole_model(qwen)
    with torch.inference_mode():
        own = model.get_video_features(**preprocess(qwen, frames), return_dict=True).deepstack_features
    assert out["deepstack"].shape == (*out["features"].shape[:3], 2, 48)
    for k in range(2):
        expected = own[k] if isinstance(own[k], torch.Tensor) else own[k][0]  # one video; before 5.18 not in a tuple
        torch.testing.assert_close(out["deepstack"][..., k, :].flatten(0, 2), expected, rtol=1e-4, atol=1e-4)
    tokens = tokens_of(qwen, frames)
    language = LanguageModel(qwen, FP32)
    texts = []
    for deep in (
        tokens.deepstack.tensor(),
        tokens.deepstack.tensor().flip(3),
        torch.zeros_like(tokens.deepstack.tensor()),
    ):
        given = VideoTokens(tokens.grid, tokens.features, deepstack=DenseFeatures(deep))
        conversation = Conversation(language, tokens.grid, given.embeddings, torch.arange(tokens.grid.tokens))
        texts.append([conversation.ask(question, max_new_tokens=12).text for question in QUESTIONS])
    assert texts[0] != texts[1] and texts[0] != texts[2]


@pytest.mark.parametrize("name", ["st-simdiff", "random", "framefusion", "prumerge"])
def test_deepstack_features_are_pruned_with_the_same_index_and_stored(name, qwen, frames, tmp_path):
    tokens = tokens_of(qwen, frames, evidence=("saliency", "keys"))
    save_tokens(tmp_path / "tokens.safetensors", tokens)
    again = load(tmp_path / "tokens.safetensors")
    assert torch.equal(again.deepstack.tensor(), tokens.deepstack.tensor()) and set(again.evidence) == {
        "saliency",
        "keys",
    }
    video = pipeline.compress_tokens(again, "0.3", name, runtime=Runtime(device="cpu"))
    save_compressed(tmp_path / "kept.safetensors", video)
    kept = StoredVideo(tmp_path / "kept.safetensors").video()
    assert torch.equal(kept.deepstack.tensor(), tokens.deepstack.tensor().flatten(0, 2)[kept.index])
    said = [
        pipeline.converse(one, runtime=Runtime(device="cpu")).ask(QUESTIONS[0], max_new_tokens=8).text
        for one in (video, kept)
    ]
    assert said[0] == said[1]


def test_a_file_whose_deepstack_features_do_not_fit_is_refused(qwen, frames, tmp_path):
    video = pipeline.compress_tokens(tokens_of(qwen, frames), "0.3", "random", runtime=Runtime(device="cpu"))
    path = tmp_path / "kept.safetensors"
    save_compressed(path, video)
    tensors, header = load_file(path), StoredVideo(path).header
    tensors["deepstack"] = tensors["deepstack"][1:].clone()
    header["checksums"]["deepstack"] = checksum(tensors["deepstack"])
    save_file(tensors, path, metadata={"stsimdiff": json.dumps(header)})
    with pytest.raises(FileFormatError, match="deepstack"):
        load(tmp_path / "kept.safetensors")


def test_asking_loads_no_merger_of_the_deepstack_features(qwen):
    names = [name for name, _ in load_language(qwen, FP32).named_parameters()]
    assert names and not any("deepstack" in name for name in names)
