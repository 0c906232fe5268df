"""What the tests of single families share."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stsimdiff_cli import pipeline
from stsimdiff_cli.errors import ModelError
from stsimdiff_cli.methods import METHODS
from stsimdiff_cli.methods.spec import parse_method
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.families.base import Family
from stsimdiff_cli.models.inference.conversation import Conversation
from stsimdiff_cli.models.inference.language_model import LanguageModel
from stsimdiff_cli.models.inference.vision_encoder import VisionEncoder
from stsimdiff_cli.models.loading.checkpoint import DUMMY
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.ratio import parse_ratio
from stsimdiff_cli.records import Frames, FrameStream, Source, VideoTokens
from stsimdiff_cli.video import Sampling
from tests.support.checkpoints import CLOSED
from tests.support.checkpoints.parts import QUESTIONS
from tests.support.clip_factory import render
from tests.support.runtimes import FP32
from tests.support.whole_models import from_pixels, token_types, tokens_of, whole_model

#: Methods that read the attention of several layers of the LLM.
THROUGH_LAYERS = {"fastv", "fitprune", "framefusion"}
#: Frames of odd sizes, upright, wide and tiny, and how many of them.
CLIPS = [(1, 45, 60), (3, 61, 37), (4, 13, 90), (2, 9, 8)]


def clip_of(count: int, height: int, width: int) -> torch.Tensor:
    """Frames (count, height, width, 3) uint8: a soft spot that wanders over a gradient."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    frames = []
    for t in range(count):
        disc = (-((x - 0.2 - 0.6 * t / max(count, 2)) ** 2 + (y - 0.5) ** 2) / 0.04).exp()
        frames.append(torch.stack([disc, y * (1 - disc), (x + 0.1 * t) / 2], -1))
    return (torch.stack(frames) * 255).to(torch.uint8)


def resized(frames: torch.Tensor, count: int, height: int, width: int) -> torch.Tensor:
    """The first `count` frames at another size, (count, height, width, 3) uint8."""
    x = frames[:count].permute(0, 3, 1, 2)
    return F.interpolate(x, size=(height, width), mode="bicubic", antialias=True).permute(0, 2, 3, 1)


def answers_equal_generate(family: Family, frames: torch.Tensor, model: Any = None) -> int:
    """At ratio 1 the same text as `generate` from pixels, for every question; returns how many answers differ.

    `model` is the whole model, if it is not the family's as it is.
    """
    tokens = tokens_of(family, frames)
    grid = tokens.grid
    language = LanguageModel(family, FP32)
    conversation = Conversation(language, grid, tokens.embeddings, torch.arange(grid.tokens))
    model, seen = model or whole_model(family), set()
    for question in QUESTIONS:
        ids, visual = language.prompter.ids(grid, question)
        expected = from_pixels(model, family, frames, ids, visual)
        answer = conversation.ask(question, max_new_tokens=12)
        assert answer.text == language.prompter.tokenizer.decode(expected, skip_special_tokens=True)
        assert answer.tokens == len(expected)
        seen.add(answer.text)
    return len(seen)


def dropping_equals_masking(family: Family, frames: torch.Tensor) -> None:
    """The reference for a compressed prompt: all tokens enter, the dropped ones may not be attended to.

    Layers of linear attention have nothing to mask: there the others are read without the dropped ones.
    """
    tokens = tokens_of(family, frames)
    grid = tokens.grid
    language = LanguageModel(family, FP32)
    everything, index = torch.arange(grid.tokens), torch.arange(grid.tokens)[::2]
    full = language.prompter.prompt(language.model, grid, QUESTIONS[1], everything)
    inputs = language.decoder_inputs(full, tokens.embeddings)
    visible = torch.isin(full.visual, index) | (full.visual < 0)
    if family.causal:
        causal = torch.ones((len(full.ids),) * 2, dtype=torch.bool).tril() & (
            visible[None] | torch.eye(len(full.ids)).bool()
        )
        inputs["attention_mask"] = causal[None, None]
    else:  # as transformers makes them
        inputs["attention_mask"] = language.model.create_masks_for_generate(
            config=language.model.config,
            inputs_embeds=inputs["inputs_embeds"],
            attention_mask=visible.long()[None],
            past_key_values=None,
            position_ids=inputs["position_ids"],
            **token_types(family, full.ids),
        )
    with torch.inference_mode():
        read = language.model.get_decoder()
        with reading_only(visible, language.model):
            expected = read(**inputs).last_hidden_state[0, -1]
        part = language.prompter.prompt(language.model, grid, QUESTIONS[1], index)
        got = read(**language.decoder_inputs(part, tokens.embeddings[index])).last_hidden_state[0, -1]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@contextmanager
def reading_only(visible: torch.Tensor, model: Any) -> Iterator[None]:
    """Within it, layers of linear attention read only the visible (L,) tokens of a prompt; others get zeros."""

    def take(_module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return arguments, named | {"hidden_states": named["hidden_states"][:, visible]}

    def put(_module: Any, _arguments: Any, out: torch.Tensor) -> torch.Tensor:
        full = out.new_zeros(1, len(visible), out.shape[-1])
        full[:, visible] = out
        return full

    mixers = [module for name, module in model.named_modules() if name.endswith("linear_attn")]
    handles = [mixer.register_forward_pre_hook(take, with_kwargs=True) for mixer in mixers]
    handles += [mixer.register_forward_hook(put) for mixer in mixers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def kept_tokens_keep_their_positions(family: Family, frames: torch.Tensor, ratio: Fraction) -> None:
    """Whatever stays in a compressed prompt stands where it stood; the text is all there."""
    tokens = tokens_of(family, frames)
    grid = tokens.grid
    language = LanguageModel(family, FP32)
    everything = torch.arange(grid.tokens)
    chance = torch.Generator().manual_seed(0)
    index = torch.randperm(grid.tokens, generator=chance)[: math.ceil(ratio * grid.tokens)].sort().values
    full = language.prompter.prompt(language.model, grid, QUESTIONS[0], everything)
    part = language.prompter.prompt(language.model, grid, QUESTIONS[0], index)
    where = torch.isin(full.visual, index) | (full.visual < 0)
    assert part.visual[part.visual >= 0].tolist() == index.tolist()
    assert torch.equal(part.positions, full.positions[:, where]) and torch.equal(part.ids, full.ids[where])
    conversation = Conversation(language, grid, tokens.embeddings[index], index)
    assert any(conversation.ask(question, max_new_tokens=4).text for question in QUESTIONS)


def every_method_keeps_its_budget(family: Family, folder: Path) -> list[str]:
    """All methods through the pipeline, from a video file to an answer: exactly ceil(r N) tokens of each.

    Methods that read several layers of the LLM are refused where nothing can be pruned inside it.
    """
    clip = render(folder / "clip.mp4", range(12))
    model = str(family.checkpoint.path)
    tokens = pipeline.encode_video(
        clip, model, sampling=Sampling(frames=6), runtime=Runtime(device="cpu"), evidence=family.evidence
    )
    done = []
    for name in METHODS:
        method = parse_method(name)
        if method.keeps_all or not method.evidence <= family.evidence:
            continue
        if name in THROUGH_LAYERS and family.name in CLOSED:
            reason = r"layers of type full_attention, (linear|sliding)_attention" if family.layer_types else "see later"
            with pytest.raises(ModelError, match=reason):
                pipeline.compress_tokens(tokens, "0.3", name, runtime=Runtime(device="cpu"))
            done.append(name)
            continue
        for ratio in ("0.1", "0.3", "0.77"):
            kept = pipeline.compress_tokens(tokens, ratio, name, runtime=Runtime(device="cpu"))
            assert len(kept.index) == len(kept.features.tensor()) == math.ceil(Fraction(ratio) * tokens.grid.tokens), (
                name
            )
        answer = pipeline.converse(kept, runtime=Runtime(device="cpu")).ask(QUESTIONS[0], max_new_tokens=2)
        assert answer.tokens > 0
        done.append(name)
    return done


def only_that_cell_moves(
    encoder: VisionEncoder, clip: torch.Tensor, cells: list[tuple[int, int, int]], side: int = 8, depth: int = 1
) -> None:
    """Inverting the pixels of one cell (slot, row, column) moves the features and keys of that cell and no other."""
    base = encoder.encode(clip)
    for t, row, column in cells:
        changed = clip.clone()
        patch = changed[
            depth * t : depth * t + depth, side * row : side * row + side, side * column : side * column + side
        ]
        patch[:] = 255 - patch
        other = encoder.encode(changed)
        for moved in (
            (base["features"] - other["features"]).abs().amax(-1) > 1e-4,
            (base["keys"] - other["keys"]).abs().amax((-2, -1)) > 1e-4,
        ):
            assert moved.nonzero().tolist() == [[t, row, column]]


def a_method_keeps_its_budget(name: str, family: Family, frames: torch.Tensor, question: str) -> None:
    """A method from five frames, which become 3 x 3 tokens each, to an answer: its budget, positions and words kept."""
    parts = [Frames(frames[:3], (0.0, 0.5, 1.0)), Frames(frames[3:], (1.5, 2.0))]
    source = Source("clip", 1, "", 2.5, 2.0, 5, frames.shape[2], frames.shape[1], "pyav")
    model = str(family.checkpoint.path)
    tokens = pipeline.encode_frames(
        FrameStream(source, 5, parts), model, Runtime(device="cpu"), evidence=("saliency", "keys")
    )
    assert tokens.grid.shape == (5, 3, 3)
    video = pipeline.compress_tokens(tokens, "0.3", name, runtime=Runtime(device="cpu"))
    count = tokens.grid.tokens if name == "vanilla" else parse_ratio("0.3").budget(tokens.grid.tokens)
    assert len(video.index) == len(video.features.tensor()) == count
    language = LanguageModel(family, FP32)
    everything = language.prompter.prompt(language.model, tokens.grid, question, torch.arange(tokens.grid.tokens))
    kept = language.prompter.prompt(language.model, tokens.grid, question, video.index)
    stays = (everything.visual < 0) | torch.isin(everything.visual, video.index)
    assert torch.equal(kept.positions, everything.positions[:, stays])
    assert torch.equal(kept.ids[kept.visual < 0], everything.ids[everything.visual < 0])  # the words all stay
    assert everything.positions.tolist() == [list(range(len(everything.ids)))]
    assert pipeline.converse(video, runtime=Runtime(device="cpu")).ask(question, max_new_tokens=3).tokens > 0


def dummy_of(folder: Path, vision: dict[str, int], preprocessor: dict[str, Any], **changes: Any) -> Family:
    """The family of a checkpoint with another geometry, whose weights are made of noise when they are loaded."""
    config = json.loads((folder / "config.json").read_text()) | changes | {DUMMY: True}
    config["vision_config"] |= vision
    (folder / "config.json").write_text(json.dumps(config))
    settings = json.loads((folder / "preprocessor_config.json").read_text()) | preprocessor
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return open_family(str(folder))


def decoded(clip: Path, rate: float) -> tuple[torch.Tensor, Any]:
    """All frames (n, 3, height, width) of a clip of that rate, and what transformers is told about them."""
    import av
    from transformers.video_utils import VideoMetadata

    with av.open(str(clip)) as file:
        frames = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)]
    video = torch.stack(frames).permute(0, 3, 1, 2)
    known = {"total_num_frames": len(video), "fps": float(rate), "duration": len(video) / rate}
    return video, VideoMetadata(**known, video_backend="pyav")


def answered_on_the_command_line(family: Family, question: str, folder: Path, capsys: Any) -> str:
    """What `ask` prints about a small clip after `encode` and `compress` with the family's checkpoint."""
    from stsimdiff_cli.cli.app import main

    clip = render(folder / "clip.mp4", range(12))
    tokens, kept = str(folder / "tokens.safetensors"), str(folder / "kept.safetensors")
    model = str(family.checkpoint.path)
    assert main(["encode", str(clip), "--model", model, "--frames", "5", "-o", tokens, "--device", "cpu"]) == 0
    assert main(["compress", tokens, "-o", kept, "--ratio", "0.4", "--device", "cpu"]) == 0
    capsys.readouterr()
    assert main(["ask", kept, question, "--max-new-tokens", "4", "--device", "cpu"]) == 0
    return capsys.readouterr().out.strip()


def answers_equal_processor(
    family: Family, processor: Any, stored: VideoTokens, video: Any, metadata: Any, **chosen: Any
) -> list[tuple[Tensor, Any]]:
    """Assert that prompts and answers about a stored video are those of an untouched processor and `generate`.

    The processor gets all frames of the `video`, and `chosen` says which it takes. Our ids and its inputs of every
    question come back.
    """
    model, conversation = whole_model(family), pipeline.converse(pipeline.all_tokens(stored), Runtime(device="cpu"))
    said, asked = set(), []
    for question in QUESTIONS:
        content = [{"type": "video"}, {"type": "text", "text": question}]
        text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        theirs = processor(text=[text], videos=[video], video_metadata=[metadata], return_tensors="pt", **chosen)
        theirs.pop("video_metadata", None)
        ids, _ = conversation.language.prompter.ids(stored.grid, question)
        assert ids.tolist() == theirs["input_ids"][0].tolist()
        with torch.inference_mode():
            out = model.generate(**theirs, max_new_tokens=12, do_sample=False)[0, theirs["input_ids"].shape[1] :]
        answer = conversation.ask(question, max_new_tokens=12)
        assert answer.text == family.tokenizer.decode(out, skip_special_tokens=True)
        said.add(answer.text)
        asked.append((ids, theirs))
    assert len(said) > 1
    return asked
