"""VideoLLaMA 3: what the tests of every family do not cover."""

from __future__ import annotations

import json

import pytest

from stsimdiff_cli import pipeline
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.families.video_llama_3 import VideoLlama3
from stsimdiff_cli.models.inference.prompts import Prompter
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.records import FrameSize, Sizing
from tests.support.checkpoints.parts import QUESTIONS
from tests.support.checkpoints.video_llama_3 import video_llama_3_checkpoint
from tests.support.clip_factory import render
from tests.support.family_checks import answered_on_the_command_line, answers_equal_processor, decoded
from tests.support.whole_models import tokens_of

CPU = Runtime(device="cpu")


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> VideoLlama3:
    return open_family(str(video_llama_3_checkpoint(tmp_path_factory.mktemp("video_llama_3") / "model")))


def test_frames_share_the_pixels_of_a_video(llama):
    """The file allows 256 to 11520: a frame alone is as it is, one of five has 48 x 48, and the least is no more."""
    assert [llama.size(96, 96, Sizing(count)) for count in (1, 5, 20)] == [(96, 96), (48, 48), (24, 24)]
    assert llama.size(8, 8, Sizing(1)) == (16, 16)
    assert llama.size(96, 96, Sizing(5, FrameSize(max_pixels=1000))) == (24, 24)
    assert llama.size(8, 8, Sizing(5, FrameSize(min_pixels=1024))) == (32, 32)


def test_every_frame_stands_after_its_time_with_commas_between(llama, frames):
    grid = tokens_of(llama, frames[:3]).grid
    written = llama.expand_placeholder("a<|video_pad|>b", grid)
    assert written == "aTime 0.0s:<|video_pad|>,Time 2.0s:<|video_pad|>,Time 4.0s:<|video_pad|>b"
    ids, visual = Prompter(llama).ids(grid, "w3")
    text = llama.tokenizer.decode(ids[visual < 0])
    assert text.count("Time") == 3 and text.count(",") == 2
    assert int((visual >= 0).sum()) == grid.tokens


def test_from_a_video_to_an_answer_on_the_command_line(llama, tmp_path, capsys):
    assert answered_on_the_command_line(llama, QUESTIONS[0], tmp_path, capsys)


@pytest.mark.processors
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of transformers' processor
@pytest.mark.parametrize(("count", "frames"), [(24, 6), (25, 7), (5, 8)])
def test_answers_equal_transformers_processor_and_generate(llama, count, frames, tmp_path):
    """From a file to an answer: their choice of frames, sizes, prompt and times; only their compression is off."""
    pytest.importorskip("torchvision", reason="transformers' video processors need torchvision")
    from transformers import VideoLlama3ImageProcessor, VideoLlama3Processor, VideoLlama3VideoProcessor

    folder = llama.checkpoint.path
    clip = render(tmp_path / "clip.mp4", range(count), rate=12)
    stored = pipeline.encode_video(clip, str(folder), pipeline.Sampling(frames=frames, decoder="pyav"), CPU)
    settings = json.loads((folder / "video_preprocessor_config.json").read_text())
    processor = VideoLlama3Processor(
        VideoLlama3ImageProcessor(**settings),
        llama.tokenizer,
        VideoLlama3VideoProcessor(**settings),
        chat_template=(folder / "chat_template.jinja").read_text(),
    )
    chosen = {"do_sample_frames": True, "num_frames": min(frames, count), "use_token_compression": False}
    answers_equal_processor(llama, processor, stored, *decoded(clip, 12), **chosen)
