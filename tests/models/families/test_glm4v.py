"""GLM-4.1V, GLM-4.5V and GLM-4.6V: what the tests of every family do not cover."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers.models.glm4v.video_processing_glm4v import smart_resize

from stsimdiff_cli import pipeline
from stsimdiff_cli.errors import RequestError
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.families.glm4v import Glm4v
from stsimdiff_cli.models.inference.language_model import LanguageModel
from stsimdiff_cli.models.inference.prompts import Prompter
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.records import Sizing
from tests.support.checkpoints.glm4v import glm4v_checkpoint, glm4v_moe_checkpoint, glm46v_checkpoint
from tests.support.checkpoints.parts import QUESTIONS
from tests.support.clip_factory import render
from tests.support.family_checks import answered_on_the_command_line, decoded
from tests.support.runtimes import FP32
from tests.support.whole_models import tokens_of, whole_model

CPU = Runtime(device="cpu")


@pytest.fixture(scope="module")
def glm(tmp_path_factory) -> Glm4v:
    return open_family(str(glm4v_checkpoint(tmp_path_factory.mktemp("glm4v") / "model")))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 64])
@pytest.mark.parametrize(("height", "width"), [(45, 60), (480, 640), (7, 300), (5, 5)])
def test_frames_get_the_size_of_transformers_video_processor(glm, count, height, width):
    """Which repeats the last of an odd number of frames before it looks at their number."""
    expected = smart_resize(count + count % 2, height, width, 2, 8, 16 * 16, 4 * 48 * 48)
    assert glm.size(height, width, Sizing(count)) == expected


def test_times_are_written_as_by_the_processor_that_the_checkpoint_names(glm, frames, tmp_path):
    """Checkpoints of GLM-4.6V have the model_type of GLM-4.1V and GLM-4.5V."""
    grid = tokens_of(glm, frames).grid
    for make, named, expected in (
        (glm4v_checkpoint, "Glm4vProcessor", "2"),
        (glm4v_checkpoint, "Glm46VProcessor", "2.0 seconds"),
        (glm4v_checkpoint, None, "2"),
        (glm46v_checkpoint, None, "2.0 seconds"),
        (glm46v_checkpoint, "Glm4vProcessor", "2"),
    ):
        folder = make(tmp_path / f"{make.__name__}{named}")
        for file in folder.glob("*preprocessor_config.json"):
            file.write_text(json.dumps(json.loads(file.read_text()) | {"processor_class": named}))
        text = open_family(str(folder)).expand_placeholder("a<|video|>b", grid)
        slots = text.split("<|begin_of_image|><|image|><|end_of_image|>")
        assert slots[0] == "a" and slots[2].removesuffix("b") == expected


def test_positions_of_every_slot_start_after_the_text_before_it(glm, frames):
    tokens = tokens_of(glm, frames)
    language = LanguageModel(glm, FP32)
    prompt = language.prompter.prompt(language.model, tokens.grid, "w3", torch.arange(tokens.grid.tokens))
    _, h, w = tokens.grid.shape
    place, expected = 0, []
    for token in prompt.visual.tolist():
        row, column = divmod(token % (h * w), w)
        expected.append([place] * 3 if token < 0 else [place, place + row, place + column])
        place += 1 if token < 0 else max(h, w) * ((row, column) == (h - 1, w - 1))
    assert prompt.positions[1:].T.tolist() == expected


def test_thoughts_can_be_turned_off_where_the_template_knows_how(glm, frames, tmp_path):
    grid = tokens_of(glm, frames).grid
    folder = glm4v_checkpoint(tmp_path / "model")
    ids, _ = Prompter(open_family(f"{folder}:thinking=off")).ids(grid, "w3")
    assert glm.tokenizer.decode(ids).endswith("<|assistant|> < think ></ think >")
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("enable_thinking", "other"))
    with pytest.raises(RequestError, match="does not know enable_thinking"):
        Prompter(open_family(f"{folder}:thinking=off")).ids(grid, "w3")
    Prompter(open_family(str(folder))).ids(grid, "w3")


def test_from_a_video_to_an_answer_on_the_command_line(glm, tmp_path, capsys):
    assert answered_on_the_command_line(glm, QUESTIONS[0], tmp_path, capsys)


@pytest.mark.processors
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of transformers' processor
@pytest.mark.parametrize(
    ("make", "count", "shown"),  # their processors take two frames a second of these clips
    [
        (glm4v_checkpoint, 48, 12),
        (glm4v_checkpoint, 42, 12),
        (glm4v_moe_checkpoint, 48, 12),
        (glm46v_checkpoint, 128, 4),
    ],
)
def test_answers_equal_transformers_processor_and_generate(make, count, shown, tmp_path):
    """From a file to an answer: their choice of frames, sizes, prompt and times, with nothing of ours."""
    pytest.importorskip("torchvision", reason="transformers' video processors need torchvision")
    from transformers import (
        Glm4vImageProcessor,
        Glm4vProcessor,
        Glm4vVideoProcessor,
        Glm46VProcessor,
        Glm46VVideoProcessor,
    )

    newer = make is glm46v_checkpoint
    folder: Path = make(tmp_path / "model")
    family = open_family(str(folder))
    clip = render(tmp_path / "clip.mp4", range(count), rate=shown)
    stored = pipeline.encode_video(clip, str(folder), pipeline.Sampling(fps=2, decoder="pyav"), CPU)
    conversation = pipeline.converse(pipeline.all_tokens(stored), CPU)
    settings = json.loads((folder / "video_preprocessor_config.json").read_text())
    settings.pop("processor_class")
    processor = (Glm46VProcessor if newer else Glm4vProcessor)(
        Glm4vImageProcessor(**settings),
        family.tokenizer,
        (Glm46VVideoProcessor if newer else Glm4vVideoProcessor)(**settings),
        chat_template=(folder / "chat_template.jinja").read_text(),
    )
    model, said = whole_model(family), set()
    video, metadata = decoded(clip, shown)
    for question in QUESTIONS:
        content = [{"type": "video"}, {"type": "text", "text": question}]
        text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        theirs = processor(text=[text], videos=[video], video_metadata=[metadata], return_tensors="pt")
        theirs.pop("video_metadata", None)
        ids, _ = conversation.language.prompter.ids(stored.grid, question)
        assert ids.tolist() == theirs["input_ids"][0].tolist()
        out = model.generate(**theirs, max_new_tokens=12, do_sample=False)[0, theirs["input_ids"].shape[1] :]
        answer = conversation.ask(question, max_new_tokens=12)
        assert answer.text == family.tokenizer.decode(out, skip_special_tokens=True)
        said.add(answer.text)
    assert len(said) > 1
