"""Every family, on tiny checkpoints loaded through the real loading path."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import pytest
import torch
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from stsimdiff_cli.cli.app import main
from stsimdiff_cli.errors import ModelError, RequestError
from stsimdiff_cli.models import FAMILIES
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.inference.attention_tap import PROBED
from stsimdiff_cli.models.inference.conversation import Conversation
from stsimdiff_cli.models.inference.language_model import LanguageModel
from stsimdiff_cli.models.inference.prompts import Prompter
from stsimdiff_cli.models.inference.vision_encoder import VisionEncoder
from stsimdiff_cli.models.loading.checkpoint import find_checkpoint
from stsimdiff_cli.models.loading.runtime import ResolvedRuntime
from stsimdiff_cli.models.loading.weights import load_language, load_vision
from tests.support.checkpoints.parts import QUESTIONS, VOCABULARY
from tests.support.checkpoints.qwen_and_onevision import CHECKPOINTS
from tests.support.runtimes import CPU, FP32
from tests.support.whole_models import QWEN, encode, from_pixels, grid_of, tokens_of, whole_model


def test_every_family_of_the_table_has_a_checkpoint_here():
    assert set(CHECKPOINTS) == set(FAMILIES)


def test_every_family_gives_all_evidence_as_the_listing_says(capsys):
    assert {FAMILIES.load(name).gives for name in FAMILIES} == {frozenset({"saliency", "keys"})}
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
    expected = family.features(model, family.pixels(frames, CPU))
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


def test_qwen_times_follow_fractions_of_seconds(tmp_path, frames):
    """Time, row and column of every visual token as Qwen2.5-VL defines them; here 2 positions a second."""
    family = open_family(str(CHECKPOINTS["qwen2_5_vl"](tmp_path / "model")))
    features = encode(family, frames)["features"]
    grid = replace(grid_of(family, features), seconds=(0.0, 0.7, 1.5, 2.1))
    language = LanguageModel(family, FP32)
    prompt = language.prompter.prompt(language.model, grid, "w3", torch.arange(grid.tokens))
    t, h, w = grid.shape
    first = int((prompt.visual == 0).nonzero())
    expected = [
        [first + int(i * 2 * 0.7), first + row, first + column]
        for i in range(t)
        for row in range(h)
        for column in range(w)
    ]
    assert prompt.positions[1:, prompt.visual >= 0].T.tolist() == expected
    assert prompt.positions[0].tolist() == list(range(len(prompt.ids)))
    behind = prompt.positions[1:, first + grid.tokens :]
    assert behind[0].tolist() == behind[1].tolist() == behind[2].tolist()
    assert behind[0].tolist() == list(range(first + max(h, w), first + max(h, w) + behind.shape[1]))


def test_dropping_tokens_equals_masking_them_out(family, frames):
    """The reference for a compressed prompt: all tokens enter, the dropped ones may not be attended to."""
    tokens = tokens_of(family, frames)
    grid = tokens.grid
    language = LanguageModel(family, FP32)
    everything, index = torch.arange(grid.tokens), torch.arange(grid.tokens)[::2]
    full = language.prompter.prompt(language.model, grid, QUESTIONS[1], everything)
    inputs = language.decoder_inputs(full, tokens.embeddings)
    visible = torch.isin(full.visual, index) | (full.visual < 0)
    causal = torch.ones((len(full.ids),) * 2, dtype=torch.bool).tril() & (
        visible[None] | torch.eye(len(full.ids)).bool()
    )
    inputs["attention_mask"] = causal[None, None]
    with torch.inference_mode():
        read = language.model.get_decoder()
        expected = read(**inputs).last_hidden_state[0, -1]
        part = language.prompter.prompt(language.model, grid, QUESTIONS[1], index)
        got = read(**language.decoder_inputs(part, tokens.embeddings[index])).last_hidden_state[0, -1]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_importance_is_the_eager_attention_of_the_last_prompt_token(family, frames):
    tokens = tokens_of(family, frames)
    grid = tokens.grid
    index = torch.arange(grid.tokens)[::2]
    kept = tokens.embeddings[index]
    whole = LanguageModel(family, FP32)
    whole.model.set_attn_implementation("eager")
    prompt = whole.prompter.prompt(whole.model, grid, QUESTIONS[0], index)
    with torch.inference_mode():
        out = whole.model.get_decoder()(**whole.decoder_inputs(prompt, kept), output_attentions=True)
    for layer in (0, 1, 2):
        expected = out.attentions[layer][0, :, -1].mean(0)[prompt.visual >= 0]
        shallow = LanguageModel(family, FP32, layers=layer + 1, attention_rows=True)
        got = shallow.importance(grid, kept, index, QUESTIONS[0], layer)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


def test_saliency_is_the_attention_received_in_the_last_vision_layer(family, frames):
    evidence = encode(family, frames, evidence=("saliency", "keys"))
    plain = encode(family, frames)["features"]
    torch.testing.assert_close(evidence["features"], plain, rtol=1e-4, atol=1e-4)
    t, h, w, _ = plain.shape
    assert evidence["saliency"].shape == (t, h, w)
    assert evidence["keys"].flatten(3).shape == (t, h, w, 32)
    # Attention received sums to 1 over a frame's patches; merging takes the mean of 4, pooling is an interpolation.
    if family.name in QWEN:
        torch.testing.assert_close(evidence["saliency"].sum((1, 2)) * 4, torch.ones(t))
    elif family.name == "llava_onevision":  # the others have a test of their own
        eager = whole_model(family, "eager")
        pixels = family.pixels(frames, CPU)["pixel_values_videos"][0]
        with torch.inference_mode():
            rows = eager.model.vision_tower(pixels, output_attentions=True).attentions[-1].mean((1, 2))  # (n, 49)
            pooled = eager.model.apply_pooling(rows[..., None])[..., 0].view(t, h, w)
        torch.testing.assert_close(evidence["saliency"], pooled, rtol=1e-4, atol=1e-6)


def test_qwen_saliency_and_keys_come_out_of_window_order_like_the_features(tmp_path, frames):
    """With every vision layer but the merger an identity, keys must be a linear function of the cell's own pixels."""
    family = open_family(str(CHECKPOINTS["qwen2_5_vl"](tmp_path / "model")))
    encoder = VisionEncoder(family, FP32, evidence=frozenset({"keys"}))
    for block in encoder.model.model.visual.blocks:
        torch.nn.init.zeros_(block.attn.proj.weight)
        torch.nn.init.zeros_(block.attn.proj.bias)
        torch.nn.init.zeros_(block.mlp.down_proj.weight)
        torch.nn.init.zeros_(block.mlp.down_proj.bias)
    base = encoder.encode(frames[:2])
    changed = frames[:2].clone()
    changed[:, :10, 40:50] = 255 - changed[:, :10, 40:50]  # one corner of the picture
    other = encoder.encode(changed)
    moved_features = (base["features"] - other["features"]).abs().amax(-1) > 1e-4
    moved_keys = (base["keys"] - other["keys"]).abs().amax((-2, -1)) > 1e-4
    assert 0 < int(moved_features.sum()) < moved_features.numel() / 2
    assert torch.equal(moved_features, moved_keys)


def test_each_step_loads_only_its_part(family):
    everything = sum(p.numel() for p in whole_model(family).parameters())
    vision = load_vision(family, FP32)
    language = load_language(family, FP32)
    shallow = load_language(family, ResolvedRuntime(CPU, torch.float32, PROBED), layers=1)
    text = re.compile(r"language_model|text_model|lm_head|image_newline")
    assert not any(text.search(name) for name, _ in vision.named_parameters() if "image_newline" not in name)
    for part in (language, shallow):
        assert all(text.search(name) for name, _ in part.named_parameters())
    counts = [sum(p.numel() for p in m.parameters()) for m in (vision, language, shallow)]
    assert max(counts) < everything and counts[2] < counts[1]


def test_qwen_pixels_equal_transformers_pil_processor(tmp_path, frames):
    from PIL import Image

    family = open_family(str(CHECKPOINTS["qwen2_5_vl"](tmp_path / "model")))
    settings = json.loads((tmp_path / "model" / "preprocessor_config.json").read_text())
    processor = Qwen2VLImageProcessorPil(**{k: v for k, v in settings.items() if k != "image_processor_type"})
    for height, width in ((45, 60), (200, 90), (12, 13), (16, 16)):
        frame = torch.nn.functional.interpolate(
            frames[:1].permute(0, 3, 1, 2), size=(height, width), mode="bicubic", antialias=True
        ).permute(0, 2, 3, 1)  # (1, height, width, 3)
        expected = processor(Image.fromarray(frame[0].numpy()), return_tensors="pt")  # an image is a clip of one frame
        got = family.pixels(frame, CPU)
        assert got["video_grid_thw"].tolist() == expected["image_grid_thw"].tolist()
        steps = (got["pixel_values_videos"] - expected["pixel_values"]).abs() * 0.26 * 255  # in 8-bit levels
        assert steps.max() < 2.1 and steps.mean() < 0.2


def test_llava_pixels_equal_transformers_pil_processor(tmp_path, frames):
    from PIL import Image

    family = open_family(str(CHECKPOINTS["llava_onevision"](tmp_path / "model")))
    settings = json.loads((tmp_path / "model" / "video_preprocessor_config.json").read_text())
    processor = SiglipImageProcessorPil(**settings)
    expected = processor([Image.fromarray(frame.numpy()) for frame in frames], return_tensors="pt")["pixel_values"]
    steps = (family.pixels(frames, CPU)["pixel_values_videos"][0] - expected).abs() * 0.5 * 255
    assert steps.max() < 2.1 and steps.mean() < 0.2


def test_pixels_equal_transformers_video_processors_where_torchvision_exists(checkpoint, family, frames):
    """The processors that the PIL ones stand in for elsewhere: the same resize on 8-bit values, so no difference."""
    pytest.importorskip("torchvision", reason="transformers' video processors need torchvision")
    if family.name == "internvl":
        pytest.skip("has a test of its own")
    from transformers import (
        LlavaNextVideoVideoProcessor,
        LlavaOnevisionVideoProcessor,
        Qwen2VLVideoProcessor,
        Qwen3VLVideoProcessor,
        SmolVLMVideoProcessor,
    )

    settings = family._settings
    clip = frames[:6].permute(0, 3, 1, 2)  # (n, 3, h, w)
    if family.name in QWEN:
        made = Qwen3VLVideoProcessor if family.name.startswith("qwen3") else Qwen2VLVideoProcessor
        processor = made(**{k: v for k, v in settings.items() if k != "image_processor_type"})
        expected = processor(clip, return_tensors="pt", cap_pixels_per_frame=False, do_sample_frames=False)
    else:
        made = {"llava_next_video": LlavaNextVideoVideoProcessor, "smolvlm": SmolVLMVideoProcessor}
        processor = made.get(family.name, LlavaOnevisionVideoProcessor)(**settings)
        expected = processor(clip, return_tensors="pt")
    name = "pixel_values" if family.name == "smolvlm" else "pixel_values_videos"
    torch.testing.assert_close(family.pixels(frames[:6], CPU)[name], expected[name], rtol=1e-5, atol=1e-5)


def test_an_odd_last_frame_is_repeated_to_fill_its_slot(tmp_path, frames):
    family = open_family(str(CHECKPOINTS["qwen2_5_vl"](tmp_path / "model")))
    odd = family.pixels(frames[:3], CPU)
    even = family.pixels(frames[[0, 1, 2, 2]], CPU)
    assert torch.equal(odd["pixel_values_videos"], even["pixel_values_videos"])


def test_the_fingerprint_follows_the_weights_and_not_the_folder(checkpoint, family, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    assert find_checkpoint(str(copy)).fingerprint == family.checkpoint.fingerprint
    other = CHECKPOINTS[family.name](tmp_path / "other", seed=5)
    assert find_checkpoint(str(other)).fingerprint != family.checkpoint.fingerprint


def test_an_incomplete_checkpoint_is_refused(checkpoint, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    shard = sorted(copy.rglob("*.safetensors"))[0]
    shard.unlink()
    with pytest.raises(ModelError, match=shard.name):
        _ = find_checkpoint(str(copy)).fingerprint


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("nowhere/at/all", "no model named"),
        ("./missing", "no model named"),
        ("no-such-owner/no-such-model", "could not be downloaded"),
    ],
)
def test_a_missing_model_is_a_sentence_and_a_hint(name, part):
    with pytest.raises((RequestError, ModelError), match=part) as caught:
        find_checkpoint(name)
    assert caught.value.hint


def test_a_checkpoint_of_an_unknown_family_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(RequestError, match="bert"):
        find_checkpoint(str(tmp_path))


def test_special_tokens_in_a_question_are_refused(family, frames):
    prompter = Prompter(family)
    placeholder = prompter.tokenizer.convert_ids_to_tokens(family.placeholder)
    with pytest.raises(RequestError, match="placeholders"):
        prompter.ids(tokens_of(family, frames).grid, f"what is {placeholder} ?")


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
        weights.append([language.importance(tokens.grid, tokens.embeddings, index, QUESTIONS[0], i) for i in range(3)])
    assert said[0] == said[1]
    for whole, pieces in zip(*weights, strict=True):
        torch.testing.assert_close(pieces, whole, rtol=1e-4, atol=1e-6)
