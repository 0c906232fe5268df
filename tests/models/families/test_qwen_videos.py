"""Qwen2-VL and Qwen2.5-VL: videos as the authors' package `qwen_vl_utils` and transformers' processors take them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from stsimdiff_cli import pipeline
from stsimdiff_cli.errors import RequestError
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.families.base import Family
from stsimdiff_cli.models.inference.language_model import LanguageModel
from stsimdiff_cli.models.loading.random_weights import write_dummy
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.records import FrameSize, Sizing
from stsimdiff_cli.video import Sampling
from tests.support.checkpoints.parts import QUESTIONS
from tests.support.checkpoints.qwen2_5_omni import qwen2_5_omni_checkpoint
from tests.support.checkpoints.qwen2_5_vl import qwen2_5_vl_checkpoint
from tests.support.checkpoints.qwen2_vl import qwen2_vl_checkpoint
from tests.support.checkpoints.qwen3_omni_moe import qwen3_omni_moe_checkpoint
from tests.support.clip_factory import render
from tests.support.runtimes import FP32
from tests.support.whole_models import preprocess, whole_model

CHECKPOINTS = {
    "qwen2_vl": qwen2_vl_checkpoint,
    "qwen2_5_vl": qwen2_5_vl_checkpoint,
    "qwen2_5_omni": qwen2_5_omni_checkpoint,  # whose authors' package holds the same code for videos
    "qwen3_omni_moe": qwen3_omni_moe_checkpoint,  # the same package
}
OMNI = {"qwen2_5_omni", "qwen3_omni_moe"}
CELL = 8 * 8  # pixels of a token of the small checkpoints
CPU = Runtime(device="cpu")


@pytest.fixture(scope="module", params=sorted(CHECKPOINTS))
def published(request, tmp_path_factory) -> Family:
    """A checkpoint whose file says nothing about videos, as all that the authors published."""
    folder = tmp_path_factory.mktemp(request.param) / "model"
    return open_family(str(CHECKPOINTS[request.param](folder, cap_pixels_per_frame=None)))


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """Ten seconds."""
    return render(tmp_path_factory.mktemp("clips") / "clip.mp4", range(100), rate=10)


# --- the size of frames ---------------------------------------------------------------------------------------------


def test_the_example_of_the_readme_has_the_tokens_of_the_authors(tmp_path):
    """128 frames: 1080p, which their rule holds to 768 tokens a frame; 4K with 64; and 160 x 120, which grows."""
    family = open_family(str(write_dummy(tmp_path / "model", "qwen2.5-vl-7b")))
    for (width, height), frames, tokens in (
        ((1920, 1080), 128, 64 * 20 * 36),
        ((3840, 2160), 64, 32 * 20 * 36),
        ((160, 120), 128, 64 * 10 * 14),
    ):
        tall, wide = family.size(height, width, Sizing(frames))
        assert frames // 2 * (tall // 28) * (wide // 28) == tokens


@pytest.mark.parametrize("frames", [1, 2, 7, 64, 300, 301, 500, 768])
@pytest.mark.parametrize(("height", "width"), [(45, 60), (480, 640), (1080, 1920), (30, 2000), (100, 100)])
def test_a_frame_has_128_to_768_tokens_and_a_video_nine_tenths_of_128000(published, frames, height, width):
    """The rule in one line: with an even number of frames n, at most 0.9 x 128,000 tokens in n / 2 slots."""
    even = frames + frames % 2
    most = max(min(768 * CELL, 0.9 * 128_000 * CELL / even * 2), int(1.05 * 128 * CELL))
    expected = smart_resize(height, width, 8, 128 * CELL, most)
    assert published.size(height, width, Sizing(frames)) == expected


def test_a_users_bounds_take_the_place_of_the_rules_but_not_of_its_limit(published):
    for asked, least, most in (
        (FrameSize(max_pixels=200 * CELL), 128, 200),
        (FrameSize(max_pixels=50 * CELL), 50, 50),
        (FrameSize(16 * CELL, 50 * CELL), 16, 50),
        (FrameSize(min_pixels=300 * CELL), 300, 768),
        (FrameSize(max_pixels=5000 * CELL), 128, 768),
    ):
        for height, width in ((45, 60), (480, 640)):
            expected = smart_resize(height, width, 8, least * CELL, most * CELL)
            assert published.size(height, width, Sizing(8, asked)) == expected
    file = FrameSize(processor=True)
    assert published.size(480, 640, Sizing(8, file)) == smart_resize(480, 640, 8, 16 * 16, 40 * 40)


def test_a_file_that_caps_frames_is_followed(tmp_path):
    """The bounds in the file, and within the most an even share of `max_video_tokens`, of which 0.9 count."""
    for make in CHECKPOINTS.values():
        folder = tmp_path / make.__name__
        family = open_family(str(make(folder, cap_pixels_per_frame=True, max_video_tokens=100)))
        for frames in (2, 8, 9, 64):
            most = max(min(40 * 40, int(100 * CELL * 0.9) * 2 // frames), int(16 * 16 * 1.05))
            assert family.size(480, 640, Sizing(frames)) == smart_resize(480, 640, 8, 16 * 16, most)


def test_a_file_without_bounds_has_those_of_transformers(tmp_path):
    """Sizes as height and width, which this processor does not know, are none."""
    bounds = {"min_pixels": None, "max_pixels": None, "size": {"height": 40, "width": 40}}
    family = open_family(str(qwen2_vl_checkpoint(tmp_path / "model", **bounds)))
    for height, width in ((45, 60), (1080, 1920)):
        assert family.size(height, width, Sizing(8)) == smart_resize(height, width, 8, 128 * 784, 768 * 784)


def test_the_embedded_models_are_not_of_the_authors(clip):
    tiny = open_family("tiny")
    assert tiny.size(480, 640, Sizing(8)) == smart_resize(480, 640, 16, 12544, 12544)
    assert tiny.spread == "truncated" and tiny.slot_period(1.0) is None
    assert pipeline.encode_video(clip, sampling=Sampling(frames=4), runtime=CPU).grid.period is None


def test_bounds_need_frames_of_any_size(clip, tmp_path):
    from tests.support.checkpoints.llava_onevision import llava_onevision_checkpoint

    model = str(llava_onevision_checkpoint(tmp_path / "model"))
    with pytest.raises(RequestError, match="one size") as error:
        pipeline.encode_video(clip, model, Sampling(size=FrameSize(max_pixels=1000)), CPU)
    assert "qwen2_5_vl" in str(error.value.hint)
    with pytest.raises(RequestError, match="cannot have 20 pixels or more, and 10"):
        pipeline.encode_video(clip, sampling=Sampling(size=FrameSize(20, 10)), runtime=CPU)


# --- which frames, and their times ----------------------------------------------------------------------------------


def test_seconds_a_slot_are_the_length_of_the_video_over_the_slots(clip, tmp_path):
    """8 frames of 10 s are 4 slots of 2.5 s, although the slots are 2.83 s apart; at a rate they are where they are."""
    model = str(qwen2_5_vl_checkpoint(tmp_path / "model"))
    grid = pipeline.encode_video(clip, model, Sampling(frames=8), CPU).grid
    assert grid.period == pytest.approx(2.5) and grid.seconds[-1] / 3 == pytest.approx(2.83, abs=0.01)
    part = pipeline.encode_video(clip, model, Sampling(frames=8, start=2.0, end=5.9), CPU).grid
    assert part.period == pytest.approx(1.0)  # 40 frames at 10 a second
    rate = pipeline.encode_video(clip, model, Sampling(fps=1), CPU).grid
    language = LanguageModel(open_family(model), FP32)
    for one, spacing in ((grid, 2.5), (rate, 2.0)):
        assert (one.period is None) == (one is rate)
        prompt = language.prompter.prompt(language.model, one, "w3", torch.arange(one.tokens))
        step = one.shape[1] * one.shape[2]
        times = prompt.positions[1, prompt.visual >= 0][::step]
        assert (times - times[0]).tolist() == [int(2 * spacing * slot) for slot in range(one.shape[0])]


# --- against the authors' package and transformers' processors, where these can be installed ------------------------


@pytest.fixture
def utils(monkeypatch):
    """The authors' package."""
    pytest.importorskip("torchvision", reason="qwen_vl_utils needs torchvision")
    monkeypatch.setenv("FORCE_QWENVL_VIDEO_READER", "decord")
    return pytest.importorskip("qwen_vl_utils.vision_process", reason="needs qwen_vl_utils, next to torchvision")


def processor_of(family: Family, language: LanguageModel, settings: dict):
    """transformers' processor of a checkpoint, untouched."""
    from transformers import (
        Qwen2_5_VLProcessor,
        Qwen2_5OmniProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
        Qwen3OmniMoeProcessor,
        WhisperFeatureExtractor,
    )

    made = Qwen2VLProcessor if family.name == "qwen2_vl" else Qwen2_5_VLProcessor
    known = {k: v for k, v in settings.items() if k != "image_processor_type"}
    tokenizer = language.prompter.tokenizer
    if family.name in OMNI:
        made = Qwen2_5OmniProcessor if family.name == "qwen2_5_omni" else Qwen3OmniMoeProcessor
        seeing, hearing = Qwen2VLImageProcessor(**known), WhisperFeatureExtractor()
        return made(seeing, Qwen2VLVideoProcessor(**known), hearing, tokenizer)
    tokenizer.image_token, tokenizer.video_token = "<image>", "<video>"
    return made(Qwen2VLImageProcessor(**known), tokenizer, Qwen2VLVideoProcessor(**known), chat_template=None)


@pytest.mark.processors
def test_frames_have_the_size_that_the_authors_package_gives_them(published, utils):
    draw = random.Random(0)
    for _ in range(60):
        frames, height, width = draw.choice((2, 4, 8, 300)), draw.randrange(8, 700), draw.randrange(8, 700)
        asked = draw.choice(({}, {"max_pixels": 9000}, {"min_pixels": 2000, "max_pixels": 9000}, {"min_pixels": 20000}))
        if max(height, width) > 100 * min(height, width):
            continue
        video = torch.zeros(1, 3, height, width, dtype=torch.uint8).expand(frames, -1, -1, -1)
        theirs = fetched(utils, video, **asked)
        assert published.size(height, width, Sizing(frames, FrameSize(**asked))) == tuple(theirs.shape[-2:])


def fetched(utils, video: torch.Tensor, **asked):
    """The authors' `fetch_video` of frames that a reader of ours delivers to it, for tokens of 8 x 8 pixels."""
    utils.VIDEO_READER_BACKENDS["ours"] = lambda _: (video, {}, 1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "get_video_reader_backend", lambda: "ours")
        return utils.fetch_video({"video": "clip", **asked}, image_patch_size=4)


@pytest.mark.processors
@pytest.mark.parametrize("frames", [8, 32])
def test_answers_equal_the_authors_package_transformers_processor_and_generate(published, utils, clip, frames):
    """From a file to an answer: their frames, sizes, prompt and times, with nothing of ours."""
    pytest.importorskip("decord")
    tokens = pipeline.encode_video(clip, str(published.checkpoint.path), Sampling(frames=frames, decoder="decord"), CPU)
    conversation = pipeline.converse(pipeline.all_tokens(tokens), CPU)
    video, metadata = utils.fetch_video(
        {"video": str(clip), "nframes": frames}, image_patch_size=4, return_video_metadata=True
    )
    processor = processor_of(published, conversation.language, published.checkpoint.json("preprocessor_config.json"))
    model = whole_model(published)
    part, rate = "<|vision_start|><video><|vision_end|>", {}
    if published.name in OMNI:  # its processor must be told the rate of the frames
        part, rate = "<|vision_bos|><|VIDEO|><|vision_eos|>", {"fps": frames / 10}
    for question in QUESTIONS:
        text = f"<|im_start|>user\n{part}{question}<|im_end|>\n<|im_start|>assistant\n"
        theirs = processor(
            text=[text],
            videos=[video],
            video_metadata=[metadata],
            do_sample_frames=False,
            do_resize=False,  # they are resized, and the bounds of the small file are smaller
            **rate,
            return_tensors="pt",
        )
        out = model.generate(**theirs, max_new_tokens=12, do_sample=False)[0, theirs["input_ids"].shape[1] :]
        answer = conversation.ask(question, max_new_tokens=12)
        assert answer.prompt_tokens == theirs["input_ids"].shape[1]
        assert answer.text == conversation.language.prompter.tokenizer.decode(out, skip_special_tokens=True)


@pytest.mark.processors
def test_frames_are_those_that_the_authors_package_chooses(utils, clip, published):
    """In videos of many lengths; a package that rounds in float32 chooses other frames of long ones than numpy."""
    from stsimdiff_cli.video import SPREADS

    draw = random.Random(1)
    for _ in range(300):
        length, count = draw.randrange(2, 200_000), 2 * draw.randrange(1, 384)
        if count > length:
            continue
        expected = torch.linspace(0, length - 1, count).round().long()  # as `_read_video_decord` has it
        assert SPREADS[published.spread](0, length - 1, count).astype(int).tolist() == expected.tolist()
    for frames in (2, 8, 30, 64, 100):
        _, metadata = utils.fetch_video({"video": str(clip), "nframes": frames}, return_video_metadata=True)
        assert SPREADS[published.spread](0, 99, frames).astype(int).tolist() == metadata["frames_indices"]


@pytest.mark.processors
def test_pixels_of_a_capped_file_are_those_of_transformers_processor(tmp_path, frames):
    pytest.importorskip("torchvision", reason="transformers' video processors need torchvision")
    from transformers import Qwen2VLVideoProcessor

    family = open_family(str(qwen2_vl_checkpoint(tmp_path / "m", cap_pixels_per_frame=True, max_video_tokens=40)))
    settings = {k: v for k, v in family._settings.items() if k != "image_processor_type"}
    theirs = Qwen2VLVideoProcessor(**settings)(frames.permute(0, 3, 1, 2), return_tensors="pt")
    ours = preprocess(family, frames)
    assert ours["video_grid_thw"].tolist() == theirs["video_grid_thw"].tolist()
    torch.testing.assert_close(ours["pixel_values_videos"], theirs["pixel_values_videos"], rtol=1e-5, atol=1e-5)
