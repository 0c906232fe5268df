"""What each part reads of a checkpoint, and the ways in which it can be loaded."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from stsimdiff_cli import pipeline
from stsimdiff_cli.errors import ModelError, RequestError
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.families.base import Family
from stsimdiff_cli.models.inference.attention_tap import TAPPED_SDPA, allow_taps
from stsimdiff_cli.models.inference.conversation import Conversation
from stsimdiff_cli.models.inference.language_model import LanguageModel
from stsimdiff_cli.models.inference.model_cache import ModelCache
from stsimdiff_cli.models.inference.vision_encoder import VisionEncoder
from stsimdiff_cli.models.loading import quantize
from stsimdiff_cli.models.loading import weights as loading
from stsimdiff_cli.models.loading.random_weights import write_dummy
from stsimdiff_cli.models.loading.runtime import ATTENTION, ResolvedRuntime, Runtime, pick_attention
from stsimdiff_cli.models.loading.weights import load_language, load_vision
from stsimdiff_cli.video import Sampling
from tests.support.checkpoints import CHECKPOINTS
from tests.support.checkpoints.parts import QUESTIONS
from tests.support.clip_factory import SAMPLES
from tests.support.commands import refused, run
from tests.support.runtimes import CPU, FP32
from tests.support.whole_models import tokens_of, whole_model

#: Names, in any checkpoint, of what is not the LLM; the one learned newline belongs to the prompt.
VISION = (
    "visual.",
    "vision_tower.",
    "embed_vision.",
    "vision_model.",
    "vision_backbone.",
    "connector.",
    "projector.",
    "mlp1.",
    "mm_projector.",
    "model.merger.",
)

#: Parts of names of tensors that no part of a model is made from: a layer after the chosen one, a model of speech.
UNUSED = {"nvila": ("vision_model.encoder.layers.3.",), "qwen2_5_omni": ("talker.",), "qwen3_omni_moe": ("talker.",)}

#: Parts of names of tensors in checkpoints whose authors call them otherwise.
OTHERWISE = {
    "molmo2": {
        "embed_tokens.": "wte.",
        "embed_tokens.weight": "wte.embedding",
        ".norm.weight": "ln_f.weight",
        "layers.0.input_layernorm": "blocks.0.attn_norm",
    }
}


def called(family: Family, part: str) -> str:
    """A part of a tensor's name, as the family's checkpoints have it."""
    return OTHERWISE.get(family.name, {}).get(part, part)


def stored(family: Family, sound: bool = False) -> set[str]:
    """Names of all tensors, except of what is not used; of a checkpoint in parts, after the folder's name.

    An encoder of sound is used by whole models only.
    """
    names = {
        f"{file.parent.name}.{name}" if family.checkpoint.parts else name
        for file in family.checkpoint.weight_files()
        for name in load_file(file)
    }
    unused = [*UNUSED.get(family.name, ()), *(() if sound else ("audio_tower.",))]
    return {name for name in names if not any(part in name for part in unused)}


def vision_side(names: set[str]) -> set[str]:
    return {name for name in names if any(part in name for part in VISION)}


# --- what is read ---------------------------------------------------------------------------------------------------


def test_the_spy_sees_every_tensor_of_a_whole_model(family, read):
    whole_model(family)
    assert sorted(read) == sorted(stored(family, sound=True))


def test_encoding_reads_the_vision_side_and_no_input_embeddings(family, read):
    load_vision(family, FP32)
    everything = stored(family)
    expected = vision_side(everything) | {name for name in everything if "image_newline" in name}
    assert sorted(read) == sorted(expected)
    assert 0 < len(expected) < len(everything)


def test_asking_reads_the_llm_and_nothing_of_the_vision_side(family, read):
    load_language(family, FP32)
    assert sorted(read) == sorted(stored(family) - vision_side(stored(family)))
    tables = [name for name in read if called(family, "embed_tokens.") in name]
    assert len(tables) == (2 if family.name == "molmo2" else 1)  # whose words for frames have a table of their own
    assert any("lm_head" in name for name in read) != family.config.tie_word_embeddings


def test_importance_reads_the_input_embeddings_and_the_first_layers(family, read):
    load_language(family, ResolvedRuntime(CPU, torch.float32, TAPPED_SDPA), layers=1)
    text = stored(family) - vision_side(stored(family))
    later = {name for name in text if re.search(r"(layers|blocks)\.[1-5]\.", name)}
    head = {name for name in text if "lm_head" in name}  # none if it is tied to the input embeddings
    assert later and sorted(read) == sorted(text - later - head)


def tie(folder: Path, name: str) -> None:
    """A checkpoint whose LM head is tied to its input embeddings."""
    CHECKPOINTS[name](folder)
    folder = folder / "llm" if name == "nvila" else folder
    whole = json.loads((folder / "config.json").read_text())
    config = whole.get("thinker_config", whole)
    config["tie_word_embeddings"] = True
    if "text_config" in config and name != "llava_video":
        config["text_config"]["tie_word_embeddings"] = True
    (folder / "config.json").write_text(json.dumps(whole))
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    for head in [one for one in index["weight_map"] if one.endswith("lm_head.weight")]:
        shard = folder / index["weight_map"].pop(head)
        save_file({one: tensor for one, tensor in load_file(shard).items() if one != head}, shard, {"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("name", sorted(set(CHECKPOINTS) - {"molmo2"}))  # whose LM head has fewer rows
def test_tied_input_embeddings_are_read_once_and_are_the_lm_head_too(name, tmp_path, read):
    tie(tmp_path / "model", name)
    family = open_family(str(tmp_path / "model"))
    for layers in (None, 1):
        del read[:]
        model = load_language(family, FP32, layers=layers)
        assert len([one for one in read if "embed_tokens." in one]) == 1
        assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    del read[:]
    load_vision(family, FP32)
    assert not any("embed_tokens" in one for one in read)


def without(family: Family, copy: Path, name: str) -> None:
    """A copy of a checkpoint that lacks one tensor; the index does not know it."""
    shutil.copytree(family.checkpoint.path, copy)
    for file in sorted(copy.rglob("*.safetensors")):
        tensors = load_file(file)
        for own in tensors:
            if name in (own, f"{file.parent.name}.{own}"):
                del tensors[own]
                save_file(tensors, file, {"format": "pt"})
                return
    raise AssertionError(name)


@pytest.mark.parametrize("part", ["embed_tokens.weight", "lm_head.weight", ".norm.weight", "layers.0.input_layernorm"])
def test_a_tensor_that_the_llm_lacks_is_missed(part, family, tmp_path):
    if part == "lm_head.weight" and family.config.tie_word_embeddings:
        part = "embed_tokens.weight"  # which is the LM head too
    part = called(family, part)
    name = next(name for name in sorted(stored(family) - vision_side(stored(family))) if part in name)
    without(family, tmp_path / "copy", name)
    problem = "cannot be loaded" if part == "wte.embedding" else "lacks"  # half of a table does not fit
    with pytest.raises(ModelError, match=problem):
        load_language(open_family(str(tmp_path / "copy")), FP32)
    if part != "lm_head.weight":
        with pytest.raises(ModelError, match=problem):
            load_language(open_family(str(tmp_path / "copy")), FP32, layers=3)


def test_any_tensor_that_the_vision_side_lacks_is_missed_and_the_llm_does_not_care(family, tmp_path):
    for number, name in enumerate(sorted(vision_side(stored(family)))[::5]):
        copy = tmp_path / str(number)
        without(family, copy, name)
        with pytest.raises(ModelError, match="lacks"):
            load_vision(open_family(str(copy)), FP32)
        load_language(open_family(str(copy)), FP32)


# --- attention kernels ----------------------------------------------------------------------------------------------


TAPPED_AS = {kernel: allow_taps(ResolvedRuntime(CPU, torch.float32, kernel)).attention for kernel in ("sdpa", "eager")}


def test_eager_and_sdpa_give_the_same_features_evidence_and_answers(family, frames):
    made = {}
    for kernel in ("sdpa", "eager"):
        for evidence in (frozenset(), frozenset({"saliency", "keys"})):
            encoder = VisionEncoder(family, ResolvedRuntime(CPU, torch.float32, kernel), evidence=evidence)
            assert encoder.model.config._attn_implementation == (TAPPED_AS[kernel] if evidence else kernel)
            made[kernel, len(evidence)] = encoder.encode(frames[:4])
    for evidence in (0, 2):
        torch.testing.assert_close(made["eager", evidence], made["sdpa", evidence], rtol=1e-4, atol=1e-4)
    tokens = tokens_of(family, frames[:4])
    assert torch.equal(tokens.features.tensor(), made["sdpa", 0]["features"])
    texts = []
    for kernel in ("sdpa", "eager"):
        language = LanguageModel(family, ResolvedRuntime(CPU, torch.float32, kernel))
        assert language.model.config._attn_implementation == kernel
        conversation = Conversation(language, tokens.grid, tokens.embeddings, torch.arange(tokens.grid.tokens))
        texts.append([conversation.ask(question, max_new_tokens=12).text for question in QUESTIONS])
    assert texts[0] == texts[1] and len(set(texts[0])) > 1


def test_importance_and_pruning_inside_are_the_same_with_both_kernels(attentive, frames):
    tokens = tokens_of(attentive, frames, evidence=("saliency", "keys"))
    results = []
    for kernel in ("sdpa", "eager"):
        runtime = Runtime(device="cpu", attention=kernel)
        video = pipeline.compress_tokens(tokens, "0.2", "st-simdiff:tau_sim=0.95,layer=1", runtime)
        conversation = pipeline.converse_inside(tokens, "0.4", "fastv", runtime)
        answers = [conversation.ask(question, max_new_tokens=6) for question in QUESTIONS]
        results.append((video.index.tolist(), [(each.text, each.alive_per_layer) for each in answers]))
        assert video.importance is not None
    assert results[0] == results[1]


def test_a_kernel_that_is_unknown_or_not_here_is_refused_with_the_list():
    for name in ("flashy", "kernels-community/flash-attn2", "flash_attention_2", "flash_attention_3"):
        with pytest.raises(RequestError) as caught:
            pick_attention(name, CPU, torch.float32)
        assert "sdpa, eager" in caught.value.hint
    assert [pick_attention(name, CPU, torch.float32) for name in ("auto", "sdpa", "eager")] == ["sdpa", "sdpa", "eager"]


def test_flash_attention_needs_a_gpu_and_half_precision(monkeypatch):
    monkeypatch.setitem(ATTENTION, "flash_attention_2", lambda: True)
    gpu = torch.device("cuda")
    assert pick_attention("flash_attention_2", gpu, torch.bfloat16) == "flash_attention_2"
    for device, dtype in ((CPU, torch.bfloat16), (gpu, torch.float32)):
        with pytest.raises(RequestError, match="GPU in bfloat16"):
            pick_attention("flash_attention_2", device, dtype)


def test_reading_attention_with_flash_attention_is_refused(family):
    with pytest.raises(RequestError, match="cannot be read with --attn flash_attention_2"):
        LanguageModel(family, ResolvedRuntime(CPU, torch.bfloat16, "flash_attention_2"), layers=1, attention_rows=True)
    with pytest.raises(RequestError, match="cannot be read"):
        VisionEncoder(family, ResolvedRuntime(CPU, torch.bfloat16, "flash_attention_2"), evidence=frozenset({"keys"}))


def test_a_kernel_is_checked_even_where_no_llm_is_needed(family, frames):
    tokens = tokens_of(family, frames[:2], evidence=("saliency", "keys"))
    with pytest.raises(RequestError, match="'nonsense'"):
        pipeline.compress_tokens(tokens, "0.5", "uniform", runtime=Runtime(device="cpu", attention="nonsense"))


def test_the_command_line_takes_a_kernel_everywhere_and_answers_alike(capsys, tmp_path):
    clip, tokens, kept = SAMPLES / "flash.mp4", tmp_path / "tokens", tmp_path / "kept"
    answers = []
    for kernel in ("eager", "sdpa"):
        how = ("--attn", kernel, "--force")
        assert run(capsys, "encode", clip, "-o", tokens, "--frames", 8, "--evidence", "saliency", *how)[0] == 0
        assert run(capsys, "compress", tokens, "-o", kept, "--ratio", "0.3", *how)[0] == 0
        answers.append([])
        for file, more in ((kept, ()), (tokens, ("--inside", "fastv", "--ratio", "0.5"))):
            code, out, err = run(capsys, "ask", file, "What happens in this video?", "--json", *how[:2], *more)
            assert code == 0, err
            answers[-1].append(json.loads(out)["answers"][0]["answer"])
    assert answers[0] == answers[1]
    for command in (
        ("encode", clip, "-o", tmp_path / "none"),
        ("compress", tokens, "-o", tmp_path / "none", "--ratio", "0.3", "--method", "uniform"),
        ("ask", kept, "what?"),
        ("profile", clip, "--frames", "4"),
    ):
        assert "auto, sdpa, eager" in refused(capsys, *command, "--attn", "flash_attention_2")
    assert not (tmp_path / "none").exists()


# --- the model cache -------------------------------------------------------------------------------------------------


def test_a_model_cache_never_mistakes_settings_for_each_other(family, monkeypatch):
    built: list[tuple] = []
    for name in ("language_model.LanguageModel", "vision_encoder.VisionEncoder"):
        monkeypatch.setattr(
            f"stsimdiff_cli.models.inference.{name}", lambda *settings: built.append(settings) or object()
        )
    models = ModelCache()
    eager, four, eight = (
        replace(FP32, **how) for how in ({"attention": "eager"}, {"quantize": "4bit"}, {"quantize": "8bit"})
    )
    parts = [
        models.language_model(family, FP32),
        models.language_model(family, eager),
        models.language_model(family, four),
        models.language_model(family, eight),
        models.language_model(family, replace(eight, attention="eager")),
        models.vision_encoder(family, FP32),
        models.vision_encoder(family, eager),
    ]
    assert len({id(part) for part in parts}) == len(built) == 7
    assert models.language_model(family, four) is parts[2] and models.vision_encoder(family, eager) is parts[6]


# --- quantisation ---------------------------------------------------------------------------------------------------

HAS_BITSANDBYTES = all(find_spec(name) for name in ("bitsandbytes", "accelerate"))
bitsandbytes = pytest.mark.skipif(not HAS_BITSANDBYTES, reason="needs stsimdiff[quantize]")


@pytest.mark.skipif(HAS_BITSANDBYTES, reason="the packages are there")
@pytest.mark.parametrize("name", ["4bit", "8bit"])
def test_without_the_packages_quantising_is_a_sentence_and_a_hint(name):
    with pytest.raises(RequestError, match="not installed: bitsandbytes, accelerate") as caught:
        quantize.check_quantize(name)
    assert caught.value.hint == "pip install 'stsimdiff[quantize]'"


def test_the_command_line_refuses_an_unknown_quantisation_before_any_work(capsys, tmp_path):
    clip = SAMPLES / "flash.mp4"
    for command in (("ask", clip, "what?"), ("compress", clip, "-o", tmp_path / "none", "--ratio", "0.3")):
        err = refused(capsys, *command, "--quantize", "2bit")
        assert "4bit or 8bit" in err


def test_an_unknown_quantisation_is_refused():
    with pytest.raises(RequestError, match="'2bit'") as caught:
        quantize.check_quantize("2bit")
    assert "4bit or 8bit" in caught.value.hint
    quantize.check_quantize(None)


@pytest.mark.parametrize(("name", "expected"), [
    ("4bit", {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16}),
    ("8bit", {"load_in_8bit": True}),
])  # fmt: skip
def test_transformers_is_told_to_quantise_and_nothing_is_moved(name, expected, family, monkeypatch):
    """Where bitsandbytes is absent, this is all that can be seen."""
    given: dict = {}

    class Part:
        @staticmethod
        def from_pretrained(**options):
            given.update(options)
            raise ImportError("no kernels for this machine")

    monkeypatch.setattr(transformers, "BitsAndBytesConfig", lambda **settings: settings)
    monkeypatch.setattr(quantize, "find_spec", lambda package: package)
    monkeypatch.setattr(loading, "partial_model", lambda config, cut: Part)
    with pytest.raises(ModelError, match="no kernels for this machine") as caught:
        load_language(family, ResolvedRuntime(CPU, torch.bfloat16, "sdpa", name))
    assert given["quantization_config"] == expected and given["device_map"] == {"": CPU}
    assert "--quantize" in caught.value.hint
    given.clear()
    with pytest.raises(ModelError):
        load_language(family, ResolvedRuntime(CPU, torch.bfloat16, "sdpa"))
    assert not {"quantization_config", "device_map"} & set(given)


def bits(language: LanguageModel) -> set[tuple[str, torch.dtype]]:
    """Classes and types of all linear layers of the LLM's decoder."""
    modules = language.model.get_decoder().modules()
    return {(type(one).__name__, one.weight.dtype) for one in modules if isinstance(one, torch.nn.Linear)}


@bitsandbytes
@pytest.mark.parametrize(("name", "kind", "part"), [
    ("4bit", ("Linear4bit", torch.uint8), 8), ("8bit", ("Linear8bitLt", torch.int8), 4)
])  # fmt: skip
def test_a_quantised_embedded_model_has_small_weights_and_nearly_the_same_logits(name, kind, part):
    family = open_family("tiny")
    plain, small = (LanguageModel(family, ResolvedRuntime(CPU, torch.float32, "sdpa", how)) for how in (None, name))
    assert bits(plain) == {("Linear", torch.float32)} and bits(small) == {kind}
    sizes = [model.model.get_decoder().layers[0].mlp.down_proj.weight.nbytes for model in (plain, small)]
    assert sizes[0] == part * sizes[1]
    assert small.model.get_input_embeddings().weight.dtype == torch.float32
    tokens = pipeline.encode_video(SAMPLES / "flash.mp4", sampling=Sampling(frames=8), runtime=Runtime(device="cpu"))
    everything = torch.arange(tokens.grid.tokens)
    logits = []
    for model in (plain, small):
        prompt = model.prompter.prompt(model.model, tokens.grid, pipeline.GENERAL_PROMPT, everything)
        with torch.inference_mode():
            out = model.model(**model.inputs(prompt, tokens.embeddings))
        logits.append(out.logits[0, -1].float())
    assert not torch.equal(*logits)
    assert torch.cosine_similarity(*logits, dim=0) > 0.98
    assert logits[0].argmax() == logits[1].argmax()


@bitsandbytes
def test_every_family_answers_in_eight_bits_and_its_encoder_is_untouched(family, frames):
    tokens = tokens_of(family, frames, evidence=("saliency", "keys"))
    conversation = pipeline.converse(pipeline.all_tokens(tokens), runtime=Runtime(device="cpu", quantize="8bit"))
    assert bits(conversation.language) == {("Linear8bitLt", torch.int8)}
    assert conversation.ask(QUESTIONS[0], max_new_tokens=6).tokens > 0
    video = pipeline.compress_tokens(
        tokens, "0.2", "st-simdiff:tau_sim=0.95,layer=1", runtime=Runtime(device="cpu", quantize="8bit")
    )
    assert video.importance is not None
    assert torch.equal(video.features.tensor(), tokens.features.tensor().flatten(0, 2)[video.index])


def test_a_dummy_cannot_be_quantised(tmp_path, monkeypatch):
    family = open_family(str(write_dummy(tmp_path / "dummy", "llava-onevision-0.5b")))
    with pytest.raises(RequestError, match="no weights"):
        load_language(family, ResolvedRuntime(CPU, torch.float32, "sdpa", "4bit"))
