"""What holds for every family of the table, on tiny checkpoints loaded through the real loading path."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from stsimdiff_cli.cli.app import main
from stsimdiff_cli.models import FAMILIES
from stsimdiff_cli.models.families.base import LINEAR
from stsimdiff_cli.models.inference.attention_tap import TAPPED_SDPA
from stsimdiff_cli.models.inference.conversation import Conversation
from stsimdiff_cli.models.inference.language_model import LanguageModel
from stsimdiff_cli.models.loading.runtime import ResolvedRuntime
from stsimdiff_cli.models.loading.weights import load_language, load_vision
from tests.support.checkpoints import CHECKPOINTS
from tests.support.checkpoints.parts import QUESTIONS, VOCABULARY
from tests.support.family_checks import (
    CLIPS,
    answers_equal_generate,
    dropping_equals_masking,
    kept_tokens_keep_their_positions,
    resized,
)
from tests.support.runtimes import CPU, FP32
from tests.support.whole_models import NATIVE, encode, from_pixels, preprocess, tokens_of, whole_model


def test_every_family_of_the_table_has_a_checkpoint_here():
    assert set(CHECKPOINTS) == set(FAMILIES)


def test_every_family_gives_all_evidence_as_the_listing_says(capsys):
    assert {FAMILIES.load(name).evidence for name in FAMILIES} == {frozenset({"saliency", "keys"})}
    assert main(["models"]) == 0 and "saliency and keys" in capsys.readouterr().out


def test_at_ratio_one_answers_equal_generate_from_pixels_token_for_token(family, frames):
    tokens = tokens_of(family, frames, chunk=2)
    grid = tokens.grid
    language = LanguageModel(family, FP32)
    conversation = Conversation(language, grid, tokens.embeddings, torch.arange(grid.tokens))
    model = whole_model(family)
    seen = []
    for question in [*QUESTIONS, QUESTIONS[0]]:
        ids, visual = language.prompter.ids(grid, question)
        expected = from_pixels(model, family, frames, ids, visual)
        answer = conversation.ask(question, max_new_tokens=12)
        tokenizer = language.prompter.tokenizer
        assert answer.text == tokenizer.decode(expected, skip_special_tokens=True)
        assert answer.tokens == len(expected)
        seen.append(answer.text)
    assert len(set(seen[:3])) > 1, "a random model that always says the same proves nothing"
    assert seen[0] == seen[3], "an answer must not depend on the questions before it"


@pytest.mark.parametrize(("count", "height", "width"), CLIPS)
def test_at_ratio_one_answers_equal_generate_for_odd_sizes_and_few_frames(family, frames, count, height, width):
    assert answers_equal_generate(family, resized(frames, count, height, width)) > 1


def test_answers_depend_on_the_video(family, frames):
    language = LanguageModel(family, FP32)
    texts = []
    for clip in (frames, 255 - frames):
        tokens = tokens_of(family, clip)
        conversation = Conversation(language, tokens.grid, tokens.embeddings, torch.arange(tokens.grid.tokens))
        texts.append(conversation.ask(QUESTIONS[0], max_new_tokens=12).text)
    assert texts[0] != texts[1]


def test_features_equal_the_whole_models_and_do_not_depend_on_the_chunk(family, frames):
    model = whole_model(family)
    expected = family.encode(model, preprocess(family, frames))["features"]
    for chunk in (2, 4, 100):
        torch.testing.assert_close(encode(family, frames, chunk)["features"], expected, rtol=1e-4, atol=1e-4)


def test_kept_tokens_keep_their_original_positions(family, frames):
    tokens = tokens_of(family, frames)
    grid = tokens.grid
    language = LanguageModel(family, FP32)
    everything = torch.arange(grid.tokens)
    index = everything[1::3]
    full = language.prompter.prompt(language.model, grid, QUESTIONS[0], everything)
    part = language.prompter.prompt(language.model, grid, QUESTIONS[0], index)
    assert part.visual[part.visual >= 0].tolist() == index.tolist()
    where = torch.isin(full.visual, index) | (full.visual < 0)
    assert torch.equal(part.positions, full.positions[:, where])
    assert torch.equal(part.ids, full.ids[where])


@pytest.mark.parametrize("ratio", ["0.3", "0.05"])
def test_random_tokens_keep_their_original_positions(family, frames, ratio):
    kept_tokens_keep_their_positions(family, resized(frames, 3, 61, 37), Fraction(ratio))


def test_dropping_tokens_equals_masking_them_out(family, frames):
    dropping_equals_masking(family, frames)


def eager_attention(family, frames):
    """Grid, index and features of every second token, and what the last prompt token pays each, layer by layer."""
    tokens = tokens_of(family, frames)
    grid = tokens.grid
    index = torch.arange(grid.tokens)[::2]
    kept = tokens.embeddings[index]
    whole = LanguageModel(family, FP32)
    whole.model.set_attn_implementation("eager")
    prompt = whole.prompter.prompt(whole.model, grid, QUESTIONS[0], index)
    with torch.inference_mode():
        out = whole.model.get_decoder()(**whole.decoder_inputs(prompt, kept), output_attentions=True)
    return grid, index, kept, [layer[0, :, -1].mean(0)[prompt.visual >= 0] for layer in out.attentions]


def test_importance_is_the_eager_attention_of_the_last_prompt_token(family, frames):
    grid, index, kept, weights_of = eager_attention(family, frames)
    for asked in (0, 1, 2):
        layer = family.attention_layer(asked)
        number = layer - family.layer_types[:layer].count(LINEAR)  # only layers with attention are listed
        expected = weights_of[number]
        shallow = LanguageModel(family, FP32, layers=layer + 1, attention_rows=True)
        got = shallow.importance(grid, kept, index, QUESTIONS[0], layer)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


def test_the_slots_of_an_answer_are_those_of_eager_attention_in_all_layers(family, frames):
    grid, index, kept, weights_of = eager_attention(family, frames)
    weights = sum(weights_of)
    expected = torch.zeros(grid.shape[0]).index_add(0, index // (grid.shape[1] * grid.shape[2]), weights)
    language = LanguageModel(family, FP32, attention_rows=True)
    watched = Conversation(language, grid, kept, index, attention=True).ask(QUESTIONS[0], max_new_tokens=1)
    torch.testing.assert_close(torch.tensor(watched.slots), expected / expected.sum(), rtol=1e-3, atol=1e-6)
    assert Conversation(language, grid, kept, index).ask(QUESTIONS[0], max_new_tokens=1).slots == ()


def test_evidence_has_the_grids_shape_and_leaves_features_alone(family, frames):
    evidence = encode(family, frames, evidence=("saliency", "keys"))
    plain = encode(family, frames)["features"]
    torch.testing.assert_close(evidence["features"], plain, rtol=1e-4, atol=1e-4)
    t, h, w, _ = plain.shape
    assert evidence["saliency"].shape == (t, h, w)
    assert evidence["keys"].flatten(3).shape == (t, h, w, 32)
    # Attention received sums to 1 over a frame's patches; merging takes the mean of 4, pooling is an interpolation.
    if family.name in NATIVE:
        torch.testing.assert_close(evidence["saliency"].sum((1, 2)) * 4, torch.ones(t))


def test_each_step_loads_only_its_part(family):
    everything = sum(p.numel() for p in whole_model(family).parameters())
    vision = load_vision(family, FP32)
    language = load_language(family, FP32)
    shallow = load_language(family, ResolvedRuntime(CPU, torch.float32, TAPPED_SDPA), layers=1)
    text = re.compile(r"language_model|text_model|lm_head|image_newline")
    assert not any(text.search(name) for name, _ in vision.named_parameters() if "image_newline" not in name)
    for part in (language, shallow):
        assert all(text.search(name) for name, _ in part.named_parameters())
    counts = [sum(p.numel() for p in m.parameters()) for m in (vision, language, shallow)]
    assert max(counts) < everything and counts[2] < counts[1]


@pytest.mark.processors
def test_pixels_equal_transformers_video_processors_where_torchvision_exists(checkpoint, family, frames):
    """The processors that the PIL ones stand in for elsewhere: the same resize on 8-bit values, so no difference."""
    pytest.importorskip("torchvision", reason="transformers' video processors need torchvision")
    if family.name in ("internvl", "gemma4"):
        pytest.skip("has a test of its own")
    from transformers import (
        Glm4vVideoProcessor,
        Glm46VVideoProcessor,
        LlavaNextVideoVideoProcessor,
        LlavaOnevisionVideoProcessor,
        MiniCPMV4_6VideoProcessor,
        Molmo2VideoProcessor,
        Qwen2VLVideoProcessor,
        Qwen3VLVideoProcessor,
        SmolVLMVideoProcessor,
        VideoLlama3VideoProcessor,
    )

    settings = family._settings
    clip = frames[:6].permute(0, 3, 1, 2)  # (n, 3, h, w)
    if family.name in NATIVE:
        makers = {
            "qwen3": Qwen3VLVideoProcessor,
            "glm4v": Glm4vVideoProcessor,
            "glm46": Glm46VVideoProcessor,
            "video": VideoLlama3VideoProcessor,
        }
        made = Qwen2VLVideoProcessor if "omni" in family.name else makers.get(family.name[:5], Qwen2VLVideoProcessor)
        processor = made(**{k: v for k, v in settings.items() if k not in ("image_processor_type", "processor_class")})
        more = {"cap_pixels_per_frame": False} if family.name.startswith("qwen") else {}
        expected = processor(clip, return_tensors="pt", do_sample_frames=False, **more)
    elif family.name == "minicpmv4_6":
        processor = MiniCPMV4_6VideoProcessor(**settings)
        expected = processor(clip, return_tensors="pt", max_slice_nums=1, do_sample_frames=False)
    elif family.name == "molmo2":
        expected = Molmo2VideoProcessor(**settings)(clip, return_tensors="pt", do_sample_frames=False)
    else:
        made = {"llava_next_video": LlavaNextVideoVideoProcessor, "smolvlm": SmolVLMVideoProcessor}
        processor = made.get(family.name, LlavaOnevisionVideoProcessor)(**settings)
        expected = processor(clip, return_tensors="pt")
    name = "pixel_values" if family.name == "smolvlm" else "pixel_values_videos"
    torch.testing.assert_close(preprocess(family, frames[:6])[name], expected[name], rtol=1e-5, atol=1e-5)


def test_ids_between_visual_tokens_belong_to_the_prompt(family, frames):
    tokens = tokens_of(family, frames)
    grid = tokens.grid
    step = grid.shape[1] * grid.shape[2]
    stamp = (VOCABULARY["w1"], VOCABULARY["w2"])
    layout = replace(grid.layout, between=((0, stamp), (step, stamp)))
    language = LanguageModel(family, FP32)
    ids, visual = language.prompter.ids(replace(grid, layout=layout), "w5")
    plain, _ = language.prompter.ids(replace(grid, layout=replace(layout, between=())), "w5")
    assert len(ids) == len(plain) + 4
    assert visual[visual >= 0].tolist() == list(range(grid.tokens))
    places = [int((visual == 0).nonzero()), int((visual == step).nonzero())]
    assert [ids[p - 2 : p].tolist() for p in places] == [list(stamp), list(stamp)]


def test_temperature_is_seeded(family, frames):
    language = LanguageModel(family, FP32)
    tokens = tokens_of(family, frames)
    conversation = Conversation(language, tokens.grid, tokens.embeddings, torch.arange(tokens.grid.tokens))
    one, same, other = (
        conversation.ask(QUESTIONS[0], max_new_tokens=12, temperature=1.5, seed=seed).text for seed in (3, 3, 4)
    )
    assert one == same != other


def test_a_prompt_read_in_pieces_is_a_prompt_read_at_once(family, frames, monkeypatch):
    """Answers, and importance in any layer, do not depend on how much runs through the LLM at once."""
    tokens = tokens_of(family, frames)
    index = torch.arange(tokens.grid.tokens)
    language = LanguageModel(family, FP32, attention_rows=True)
    said, weights = [], []
    for piece in (10_000, 7):
        monkeypatch.setattr("stsimdiff_cli.models.inference.language_model.PIECE", piece)
        conversation = Conversation(language, tokens.grid, tokens.embeddings, index)
        said.append([conversation.ask(question, max_new_tokens=12).text for question in QUESTIONS])
        layers = sorted({family.attention_layer(i) for i in range(3)})
        weights.append([language.importance(tokens.grid, tokens.embeddings, index, QUESTIONS[0], i) for i in layers])
    assert said[0] == said[1]
    for whole, pieces in zip(*weights, strict=True):
        torch.testing.assert_close(pieces, whole, rtol=1e-4, atol=1e-6)
