"""Molmo 2: what the tests of every family do not cover."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from stsimdiff_cli import pipeline
from stsimdiff_cli.errors import ModelError
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.families.molmo2 import Molmo2
from stsimdiff_cli.models.inference.conversation import Conversation
from stsimdiff_cli.models.inference.language_model import LanguageModel
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.records import VideoTokens
from tests.support.checkpoints import TOO_NEW
from tests.support.checkpoints.molmo2 import molmo2_checkpoint
from tests.support.checkpoints.parts import QUESTIONS
from tests.support.clip_factory import render
from tests.support.family_checks import (
    answered_on_the_command_line,
    answers_equal_generate,
    answers_equal_processor,
    decoded,
)
from tests.support.runtimes import FP32
from tests.support.whole_models import encode, token_types, tokens_of, whole_model

pytestmark = pytest.mark.skipif("molmo2" in TOO_NEW, reason="needs a newer transformers")

CPU = Runtime(device="cpu")


@pytest.fixture(scope="module")
def molmo(tmp_path_factory) -> Molmo2:
    return open_family(str(molmo2_checkpoint(tmp_path_factory.mktemp("molmo2") / "model")))


@pytest.fixture
def tokens(molmo, frames) -> VideoTokens:
    return tokens_of(molmo, frames[:4])


def test_every_frame_stands_after_its_time_and_between_the_tags_of_the_processor(molmo, tokens, tmp_path):
    grid = replace(tokens.grid, shape=(2, 2, 2), seconds=(0.0, 12.25))
    written = molmo.expand_placeholder("a<|video|>b", grid)
    assert written == "<|im_end|>a0.0 <im_start><im_patch><im_end> 12.2 <im_start><im_patch><im_end>b"
    other = open_family(str(molmo2_checkpoint(tmp_path / "model", use_frame_special_tokens=True)))
    written = other.expand_placeholder("<|im_end|><|video|>", grid)
    assert written == "<|im_end|>0.0 <frame_start><im_patch><frame_end> 12.2 <frame_start><im_patch><frame_end>"
    with pytest.raises(ModelError, match="after every row"):
        open_family(str(molmo2_checkpoint(tmp_path / "columns", video_use_col_tokens=True)))


def test_dropping_is_what_transformers_masks_do_with_padding_in_its_place(molmo, tokens):
    """Its own class makes the masks: of the kind of each token, and of a padding that stands where tokens are dropped.

    Among them those of a whole slot, of which the tags stay.
    """
    grid = tokens.grid
    index = torch.cat([torch.arange(4, 8), torch.arange(8, grid.tokens)[::2]])
    language = LanguageModel(molmo, FP32)
    full = language.prompter.prompt(language.model, grid, QUESTIONS[1], torch.arange(grid.tokens))
    stays = torch.isin(full.visual, index) | (full.visual < 0)
    inputs = language.inputs(full, tokens.embeddings)
    with torch.inference_mode():
        expected = whole_model(molmo).model(
            inputs_embeds=inputs["inputs_embeds"],
            position_ids=inputs["position_ids"],
            attention_mask=stays.int()[None],
            **token_types(molmo, full.ids),
        )
        part = language.prompter.prompt(language.model, grid, QUESTIONS[1], index)
        got = language.model.get_decoder()(**language.decoder_inputs(part, tokens.embeddings[index]))
    torch.testing.assert_close(got.last_hidden_state[0], expected.last_hidden_state[0, stays], rtol=1e-4, atol=1e-4)


def test_all_that_tokens_of_frames_see_is_read_once_for_all_questions(molmo, tokens):
    """The last tag too, which every visual token sees; and nothing is left to read where no token is kept."""
    grid = tokens.grid
    for index in (torch.arange(grid.tokens), torch.arange(0)):
        conversation = Conversation(LanguageModel(molmo, FP32), grid, tokens.embeddings[index], index)
        prompt = conversation.language.prompter.prompt(conversation.language.model, grid, "", index)
        length = conversation.cache.get_seq_length()
        assert molmo.tokenizer.convert_ids_to_tokens(prompt.ids[[length - 1]].tolist()) == ["<im_end>"]
        assert (molmo.mutual(prompt.ids[length:]) == -1).all()
        assert conversation.ask(QUESTIONS[0], max_new_tokens=2).tokens > 0


def test_both_kernels_answer_alike(molmo, tokens):
    index = torch.arange(tokens.grid.tokens)[::3]
    said = [
        [
            Conversation(LanguageModel(molmo, runtime), tokens.grid, tokens.embeddings[index], index)
            .ask(question, max_new_tokens=8)
            .text
            for question in QUESTIONS
        ]
        for runtime in (FP32, replace(FP32, attention="eager"))
    ]
    assert said[0] == said[1] and len(set(said[0])) > 1


def test_methods_inside_the_llm_are_refused_with_the_reason(tokens):
    conversation = pipeline.converse_inside(tokens, "0.4", "fastv", CPU)
    with pytest.raises(ModelError, match="see later ones") as error:
        conversation.ask(QUESTIONS[0], max_new_tokens=2)
    assert "Compress first" in str(error.value.hint)


def test_norms_after_the_layers_and_two_rotary_embeddings_are_those_of_the_class(frames, tmp_path):
    """As in Molmo2-O-7B: other norms, and layers of which only some scale their positions."""
    scaled = {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}
    other = {"qk_norm_type": "olmo", "norm_after": True, "rope_scaling_layers": [1], "rope_parameters": scaled}
    assert answers_equal_generate(open_family(str(molmo2_checkpoint(tmp_path / "model", text=other))), frames[:4]) > 1


def test_published_configurations_name_and_count_layers_in_another_way(molmo, frames, tmp_path):
    """Of vision layers they count two more than are stored, from the end, and they call them otherwise."""
    folder = molmo2_checkpoint(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    vision, adapter = config.pop("vision_config"), config["adapter_config"]
    names = {"image_size": "image_default_input_size", "patch_size": "image_patch_size"}
    config["vit_config"] = {names.get(name, name): value for name, value in vision.items()} | {"num_hidden_layers": 5}
    adapter["vit_layers"] = [layer - 5 for layer in adapter.pop("vision_feature_layer")]
    (folder / "config.json").write_text(json.dumps(config))
    published = open_family(str(folder))
    for name, expected in encode(molmo, frames[:2], evidence=("saliency", "keys")).items():
        assert torch.equal(encode(published, frames[:2], evidence=("saliency", "keys"))[name], expected)


def test_saliency_is_the_mean_over_the_patches_of_a_token(molmo, frames):
    """Attention received sums to 1 over the 36 patches of a frame, of which 9 are a token."""
    saliency = encode(molmo, frames[:3], evidence=("saliency",))["saliency"]
    torch.testing.assert_close(saliency.sum((1, 2)) * 9, torch.ones(3))


def test_from_a_video_to_an_answer_on_the_command_line(molmo, tmp_path, capsys):
    assert answered_on_the_command_line(molmo, QUESTIONS[0], tmp_path, capsys)


@pytest.mark.processors
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of transformers' processor
@pytest.mark.parametrize(("count", "frames", "special"), [(24, 6, False), (25, 7, True), (5, 8, False)])
def test_answers_equal_transformers_processor_and_generate(count, frames, special, tmp_path):
    """From a file to an answer: their choice of frames, pixels, prompt, times and kinds of tokens."""
    pytest.importorskip("torchvision", reason="transformers' video processors need torchvision")
    from transformers import Molmo2ImageProcessor, Molmo2Processor, Molmo2VideoProcessor

    folder = molmo2_checkpoint(tmp_path / "model", use_frame_special_tokens=special)
    molmo = open_family(str(folder))
    clip = render(tmp_path / "clip.mp4", range(count), rate=12)
    stored = pipeline.encode_video(clip, str(folder), pipeline.Sampling(frames=frames, decoder="pyav"), CPU)
    settings = json.loads((folder / "video_preprocessor_config.json").read_text())
    processor = Molmo2Processor(
        Molmo2ImageProcessor(**settings),
        Molmo2VideoProcessor(**settings),
        molmo.tokenizer,
        chat_template=(folder / "chat_template.jinja").read_text(),
        use_frame_special_tokens=special,
    )
    chosen = {"do_sample_frames": True, "num_frames": min(frames, count), "max_fps": 12}
    for ids, theirs in answers_equal_processor(molmo, processor, stored, *decoded(clip, 12), **chosen):
        assert torch.equal(molmo.mutual(ids) >= 0, theirs["mm_token_type_ids"][0] == 1)
