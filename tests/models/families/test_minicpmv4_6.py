"""MiniCPM-V 4.6: what the tests of every family do not cover."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from stsimdiff_cli import pipeline
from stsimdiff_cli.errors import RequestError
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.families.minicpmv4_6 import MiniCPMV46
from stsimdiff_cli.models.inference.prompts import Prompter
from stsimdiff_cli.models.inference.vision_encoder import VisionEncoder
from stsimdiff_cli.models.loading.runtime import Runtime
from tests.support.checkpoints.minicpmv4_6 import NAMED, minicpmv4_6_checkpoint
from tests.support.checkpoints.parts import QUESTIONS
from tests.support.clip_factory import render
from tests.support.family_checks import answers_equal_generate, clip_of, decoded, only_that_cell_moves
from tests.support.runtimes import FP32
from tests.support.whole_models import encode, tokens_of, whole_model

CPU = Runtime(device="cpu")
#: Height and width of frames: common ones, upright ones, and such as are rounded in odd ways.
SIZES = [(1080, 1920), (720, 1280), (1920, 1080), (360, 640), (240, 320), (45, 60), (13, 90), (9, 8), (200, 1999)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return minicpmv4_6_checkpoint(tmp_path_factory.mktemp("minicpmv4_6") / "model")


@pytest.fixture(scope="module")
def minicpm(folder) -> MiniCPMV46:
    return open_family(str(folder))


@pytest.mark.parametrize("option", ["16x", "4x"])
def test_the_grid_is_in_rows(folder, option):
    """Without what tokens exchange with each other, a square of pixels moves its own token and no other."""
    encoder = VisionEncoder(open_family(f"{folder}:downsample={option}"), FP32, frozenset({"keys"}))
    tower = encoder.model.model.vision_tower
    for attention in [layer.self_attn for layer in tower.encoder.layers] + [tower.vit_merger.self_attn]:
        nn.init.zeros_(attention.out_proj.weight)
    side, (rows, columns) = {"16x": (16, (2, 4)), "4x": (8, (4, 8))}[option]
    frames = clip_of(3, 32, 64)  # of the size to which they are resized
    assert tuple(encoder.encode(frames)["features"].shape[:3]) == (3, rows, columns)
    cells = [(0, 0, 0), (1, 0, columns - 1), (2, rows - 1, 1)]
    only_that_cell_moves(encoder, frames, cells, side=side)


def test_four_times_as_many_tokens_if_asked_for(folder, minicpm, frames):
    """Held against `generate` with the same setting."""
    finer = open_family(f"{folder}:downsample=4x")
    grids = [tokens_of(family, frames).grid.shape for family in (minicpm, finer)]
    assert grids == [(7, 3, 3), (7, 5, 7)]
    evidence = encode(finer, frames, evidence=("saliency", "keys"))
    torch.testing.assert_close(evidence["saliency"].sum((1, 2)) * 4, torch.ones(7))
    model = whole_model(finer)
    plain = model.generate
    model.generate = lambda **inputs: plain(**inputs, downsample_mode="4x")
    assert answers_equal_generate(finer, frames, model) > 1
    with pytest.raises(RequestError, match="no option downsample=8x"):
        open_family(f"{folder}:downsample=8x")


def test_saliency_is_the_attention_that_a_token_receives_in_the_last_layer(minicpm, frames):
    """Four of the last layer's patches to a token; what a frame receives is one."""
    saliency = encode(minicpm, frames, evidence=("saliency",))["saliency"]
    torch.testing.assert_close(saliency.sum((1, 2)) * 4, torch.ones(7))
    assert saliency.std() > 1e-4


def test_a_frame_of_full_hd_has_66_tokens(tmp_path):
    """With the published patches of 14 pixels and resolution of 448."""
    family = published(tmp_path)
    assert [family.size(*size) for size in ((1080, 1920), (448, 448), (1920, 1080))] == [
        (336, 616),
        (448, 448),
        (616, 336),
    ]


def published(folder: Path) -> MiniCPMV46:
    """The family with the published patches and resolution, whose weights nobody reads."""
    minicpmv4_6_checkpoint(folder / "model", scale_resolution=448, patch_size=14)
    config = json.loads((folder / "model" / "config.json").read_text())
    config["vision_config"]["patch_size"] = 14
    (folder / "model" / "config.json").write_text(json.dumps(config))
    return open_family(str(folder / "model"))


@pytest.mark.processors
@pytest.mark.parametrize("option", ["16x", "4x"])
def test_sizes_equal_those_of_the_video_processor(option, tmp_path):
    pytest.importorskip("torchvision", reason="transformers' video processors need torchvision")
    from transformers import MiniCPMV4_6VideoProcessor

    processor = MiniCPMV4_6VideoProcessor()
    folder = published(tmp_path).checkpoint.path
    family = open_family(f"{folder}:downsample={option}")
    for height, width in SIZES:
        frame = torch.zeros(1, 3, height, width, dtype=torch.uint8)
        out = processor(frame, max_slice_nums=1, downsample_mode=option, do_sample_frames=False, return_tensors="pt")
        assert [[edge // 14 for edge in family.size(height, width)]] == out["target_sizes_videos"].tolist()


@pytest.mark.processors
@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # their processor gives numpy a tensor
@pytest.mark.parametrize("option", ["16x", "4x"])
@pytest.mark.parametrize(("height", "width"), [(48, 64), (90, 40)])
def test_answers_equal_transformers_processor_and_generate(folder, option, height, width, tmp_path):
    """From a file to an answer: their choice of frames, sizes and prompt, with nothing of ours.

    Videos are sampled once a second, as their processor does it.
    """
    pytest.importorskip("torchvision", reason="transformers' video processors need torchvision")
    from transformers import MiniCPMV4_6ImageProcessor, MiniCPMV4_6Processor, MiniCPMV4_6VideoProcessor

    name = f"{folder}:downsample={option}"
    family = open_family(name)
    clip = render(tmp_path / "clip.mp4", range(40), rate=10, size=(width, height))
    stored = pipeline.encode_video(clip, name, pipeline.Sampling(fps=1, decoder="pyav"), CPU)
    conversation = pipeline.converse(pipeline.all_tokens(stored), CPU)
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    processor = MiniCPMV4_6Processor(
        MiniCPMV4_6ImageProcessor(**settings),
        MiniCPMV4_6VideoProcessor(**settings),
        family.tokenizer,
        chat_template=(folder / "chat_template.jinja").read_text(),
    )
    model, said = whole_model(family), set()
    frames, metadata = decoded(clip, 10)
    for question in QUESTIONS:
        content = [{"type": "video"}, {"type": "text", "text": question}]
        text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        theirs = processor(
            text=[text],
            videos=[frames],
            video_metadata=[metadata],
            videos_kwargs={"max_slice_nums": 1, "downsample_mode": option},
            use_image_id=False,
            return_tensors="pt",
        )
        ids, _ = Prompter(family).ids(stored.grid, question)
        assert ids.tolist() == theirs["input_ids"][0].tolist()
        out = model.generate(**theirs, max_new_tokens=12, do_sample=False, downsample_mode=option)
        answer = conversation.ask(question, max_new_tokens=12)
        assert answer.text == family.tokenizer.decode(out[0, ids.shape[0] :], skip_special_tokens=True)
        said.add(answer.text)
    assert len(said) > 1


def test_a_question_that_spells_the_tokens_of_a_video_is_text(minicpm, frames):
    grid = tokens_of(minicpm, frames).grid
    _, plain = Prompter(minicpm).ids(grid, "w1")
    _, spelled = Prompter(minicpm).ids(grid, "w1 " + " ".join(NAMED.values()))
    assert (spelled >= 0).sum() == (plain >= 0).sum() == grid.tokens
