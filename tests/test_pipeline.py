"""The stages in a row."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch

from stsimdiff_cli import pipeline, video
from stsimdiff_cli.errors import RequestError
from stsimdiff_cli.methods import METHODS
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.inference.model_cache import ModelCache, NoModelCache
from stsimdiff_cli.models.inference.vision_encoder import VisionEncoder
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.pipeline import Context
from stsimdiff_cli.records import Frames, FrameStream
from stsimdiff_cli.storage.reading import load
from stsimdiff_cli.timing import Stopwatch
from stsimdiff_cli.video import Sampling, source
from stsimdiff_cli.video.rechunk import rechunked
from tests.support.checkpoints import CHECKPOINTS
from tests.support.clip_factory import SAMPLES, render
from tests.support.runtimes import FP32
from tests.support.tokens import make_tokens


def numbered(*numbers: int, missing: tuple[float, ...] = ()) -> Frames:
    """Frames of one pixel that hold their own number."""
    pixels = torch.tensor(numbers, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 1, 3)
    return Frames(pixels, tuple(float(n) for n in numbers), missing)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_rechunking_keeps_order_and_fills_every_chunk_but_the_last(size):
    missing: list[float] = []
    parts = [numbered(0, 1), numbered(missing=(2.0,)), numbered(3, missing=(4.0,)), numbered(5, 6, 7, 8)]
    out = list(rechunked(parts, size, missing))
    assert [n for part in out for n in part.seconds] == [0, 1, 3, 5, 6, 7, 8]
    assert [int(p) for part in out for p in part.pixels[:, 0, 0, 0]] == [0, 1, 3, 5, 6, 7, 8]
    assert all(len(part.seconds) == size for part in out[:-1]) and missing == [2.0, 4.0]


def test_no_more_frames_are_held_than_a_chunk(tmp_path, monkeypatch):
    """Memory does not grow with the number of frames: the encoder sees chunks, whatever the clip's length."""
    clip = render(tmp_path / "clip.mp4", range(40))
    sizes = []
    real = VisionEncoder.prepare
    monkeypatch.setattr(
        VisionEncoder,
        "prepare",
        lambda self, frames, sizing: sizes.append((len(frames), sizing.frames)) or real(self, frames, sizing),
    )
    monkeypatch.setattr(pipeline, "CHUNK", 4)
    tokens = pipeline.encode_video(clip, sampling=Sampling(frames=39))
    assert sizes == [(4, 39)] * 9 + [(3, 39)] and tokens.grid.shape[0] == 39


def test_the_chunk_does_not_change_the_tokens(tmp_path, monkeypatch):
    clip = render(tmp_path / "clip.mp4", range(20))
    model = str(CHECKPOINTS["qwen2_5_vl"](tmp_path / "model"))
    made = []
    for chunk in (2, 100):
        monkeypatch.setattr(pipeline, "CHUNK", chunk)
        made.append(pipeline.encode_video(clip, model, sampling=Sampling(frames=9)))
    first, second = made
    assert first.grid == second.grid and first.grid.shape[0] == 5  # two frames a slot, the last one repeated
    torch.testing.assert_close(first.features.tensor(), second.features.tensor(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("broken", [False, True])
def test_tokens_that_go_to_a_file_are_those_that_stay_in_memory(tmp_path, monkeypatch, broken):
    """Also when frames stay away, for which the file had been laid out."""
    clip = render(tmp_path / "clip.mp4", range(20))
    scan = video.scan(clip)
    origin = video.source_of(clip, scan, "pyav", ())
    parts = list(video.read_frames(clip, scan, video.choose_frames(scan, Sampling(frames=9)), chunk=4))
    if broken:
        gone = Frames(parts[1].pixels[:0], (), parts[1].seconds)
        parts[1] = gone
    monkeypatch.setattr(pipeline, "CHUNK", 4)
    made = {}
    for to in (None, tmp_path / "a.safetensors", tmp_path / "b.safetensors"):
        evidence = ("saliency", "keys")
        made[to] = pipeline.encode_frames(
            FrameStream(origin, 9, parts), runtime=Runtime(device="cpu"), evidence=evidence, to=to
        )
    memory, (file, again) = made.pop(None), made
    stored = load(file)
    assert stored.grid == memory.grid and made[file].grid == memory.grid
    assert stored.grid.shape[0] == (5 if broken else 9) and len(memory.grid.source.missing_seconds) == 4 * broken
    assert torch.equal(stored.features.tensor(), memory.features.tensor()) and torch.equal(
        made[file].features.tensor(), memory.features.tensor()
    )
    for name in ("saliency", "keys"):
        assert torch.equal(stored.evidence[name].tensor(), memory.evidence[name].tensor())
    assert file.read_bytes() == again.read_bytes()


def test_a_slot_is_dated_by_its_first_frame(tmp_path):
    clip = render(tmp_path / "clip.mp4", range(20), rate=10)
    model = str(CHECKPOINTS["qwen2_5_vl"](tmp_path / "model"))
    tokens = pipeline.encode_video(clip, model, sampling=Sampling(frames=20))
    assert tokens.grid.seconds == pytest.approx([0.2 * i for i in range(10)])


def test_the_checksum_of_the_video_is_part_of_the_scan(tmp_path, monkeypatch):
    clip = render(tmp_path / "clip.mp4", range(4))
    checksum_of, pause = source.checksum_of, 0.5

    def slowly(path, *stopped):
        time.sleep(pause)
        return checksum_of(path, *stopped)

    seconds = []
    for checksum in (checksum_of, slowly):
        monkeypatch.setattr(source, "checksum_of", checksum)
        context = Context(models=ModelCache(), timer=Stopwatch())
        pipeline.encode_video(clip, sampling=Sampling(frames=3), runtime=Runtime(device="cpu"), context=context)
        seconds.append(context.timer.seconds)
    quick, slow = seconds
    assert quick["scan"] < pause <= slow["scan"]


def test_the_source_is_recorded(tmp_path):
    clip = render(tmp_path / "clip.mp4", range(20))
    origin = pipeline.encode_video(clip, sampling=Sampling(frames=3)).grid.source
    assert (origin.name, origin.bytes, origin.frames) == ("clip.mp4", clip.stat().st_size, 20)
    assert len(origin.sha256) == 64 and origin.decoder == "pyav"
    assert origin.seconds == pytest.approx(video.scan(clip).duration)


def test_kept_features_are_the_original_ones():
    tokens = make_tokens(dtype=torch.bfloat16)
    kept = pipeline.compress_tokens(tokens, "0.4", "st-simdiff:importance=centrality", runtime=Runtime(device="cpu"))
    assert kept.features.dtype == torch.bfloat16
    assert torch.equal(kept.features.tensor(), tokens.features.tensor().flatten(0, 2)[kept.index])


def test_importance_in_the_llm_is_asked_only_for_candidates_that_must_go(tmp_path):
    calls = []

    class FakeModels(ModelCache):
        def language_model(self, family, runtime, layers=None, attention_rows=False):
            calls.append((layers, attention_rows))
            return self

        def importance(self, grid, tokens, index, prompt, layer):
            calls.append((len(tokens.features), len(index), prompt, layer))
            return torch.arange(len(index)).float()

    family = open_family(str(CHECKPOINTS["qwen2_5_vl"](tmp_path / "model")))
    tokens = make_tokens()
    tokens = replace(tokens, grid=replace(tokens.grid, model=family.checkpoint.ref))
    method = "st-simdiff:layer=2"
    video = pipeline.compress_tokens(
        tokens, "0.1", method, runtime=Runtime(device="cpu"), prompt="why?", context=Context(models=FakeModels())
    )
    candidates = video.counts["candidates"]
    assert calls == [(3, True), (candidates, candidates, "why?", 2)]
    assert video.method["prompt"] == "why?"
    calls.clear()
    everything = pipeline.compress_tokens(
        tokens, 1, method, runtime=Runtime(device="cpu"), context=Context(models=FakeModels())
    )
    assert calls == [] and everything.method["prompt"] is None and everything.importance is None


def test_a_cache_loads_each_part_once(tmp_path):
    family = open_family(str(CHECKPOINTS["qwen2_5_vl"](tmp_path / "model")))
    settings = (family, FP32)
    keeping, passing = ModelCache(), NoModelCache()
    assert keeping.vision_encoder(*settings) is keeping.vision_encoder(*settings)
    assert keeping.language_model(*settings) is keeping.language_model(*settings)
    assert keeping.language_model(*settings) is not keeping.language_model(*settings, layers=1)
    assert passing.vision_encoder(*settings) is not passing.vision_encoder(*settings)


def test_a_method_without_its_evidence_is_refused():
    with pytest.raises(RequestError, match="needs saliency"):
        pipeline.compress_tokens(make_tokens(), "0.1", "st-simdiff:importance=saliency", runtime=Runtime(device="cpu"))


def test_a_caller_s_stopwatch_waits_for_the_device_that_is_used(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    timer = Stopwatch("cuda:1")
    timer.step("encode")
    timer.stop()
    assert waited and set(waited) == {"cuda:1"}


# --- features of one's own ------------------------------------------------------------------------------------------

ALONE = [name for name in METHODS if not METHODS.load(name)().needs]


@pytest.mark.parametrize("method", [*ALONE, "st-simdiff:importance=centrality"])
def test_features_alone_are_selected_from_as_those_of_a_video(method):
    tokens = make_tokens((6, 7, 5))
    selection = pipeline.select(tokens.features.tensor(), "0.3", method)
    expected = pipeline.compress_tokens(tokens, "0.3", method, Runtime("cpu"))
    assert selection.index.tolist() == expected.index.tolist()
    assert len(selection.index) == (210 if method == "vanilla" else 63)
    assert len(ALONE) >= 7


def test_evidence_may_be_passed_with_features_and_is_asked_for():
    tokens = make_tokens((4, 3, 5), saliency=torch.rand((4, 3, 5)))
    features, saliency = tokens.features.tensor(), tokens.evidence["saliency"].tensor()
    with pytest.raises(RequestError, match="fastervlm needs saliency"):
        pipeline.select(features, 0.5, "fastervlm")
    index = pipeline.select(features, 0.5, "fastervlm", evidence={"saliency": saliency}).index
    assert index.tolist() == pipeline.compress_tokens(tokens, 0.5, "fastervlm", Runtime("cpu")).index.tolist()


def test_a_method_that_asks_the_llm_and_features_of_a_wrong_form_are_refused():
    with pytest.raises(RequestError, match="asks the LLM") as caught:
        pipeline.select(torch.rand((4, 3, 5, 8)), 0.5, "st-simdiff")
    assert "importance=centrality" in caught.value.hint
    for wrong in (torch.rand((4, 3, 5)), torch.ones((4, 3, 5, 8), dtype=torch.int64), torch.rand((0, 3, 5, 8))):
        with pytest.raises(ValueError, match="expected floating point features"):
            pipeline.select(wrong, 0.5)
    with pytest.raises(ValueError, match="finite"):
        pipeline.select(torch.full((1, 2, 2, 8), torch.nan), 0.5)


def test_a_conversation_takes_all_tokens_as_well_as_kept_ones():
    tokens = pipeline.encode_video(SAMPLES / "flash.mp4", sampling=Sampling(frames=8))
    question = "How many objects are there?"
    kept = pipeline.all_tokens(tokens)
    assert pipeline.converse(tokens).ask(question).text == pipeline.converse(kept).ask(question).text != ""


def test_records_of_a_video_say_in_one_line_what_they_hold():
    tokens = make_tokens()
    video = pipeline.compress_tokens(tokens, "0.3", "uniform", Runtime("cpu"))
    about = "60 tokens of clip.mp4 (4 slots of 3 x 5, width 16) by nobody/nothing"
    assert f"{tokens}" == f"{tokens.grid}" == about
    assert f"{video}" == f"18 of {about}, kept by uniform at ratio 0.3"
