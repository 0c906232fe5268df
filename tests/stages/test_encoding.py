"""The stages of encoding work at the same time, and end together."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from stsimdiff_cli import pipeline
from stsimdiff_cli.cli.app import main
from stsimdiff_cli.errors import ModelError, StsimdiffError, VideoError
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.inference.vision_encoder import VisionEncoder
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.pipeline import Context
from stsimdiff_cli.records import Frames, FrameStream, Sizing
from stsimdiff_cli.stages import encoding
from stsimdiff_cli.storage.reading import load
from stsimdiff_cli.storage.sinks import FileSink
from stsimdiff_cli.timing.spans import Span, recording
from stsimdiff_cli.video import Sampling, open_stream
from tests.support.checkpoints import CHECKPOINTS
from tests.support.clip_factory import render
from tests.support.runtimes import FP32

FRAMES = 60
CPU = Runtime(device="cpu")


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return render(tmp_path_factory.mktemp("clip") / "clip.mp4", range(FRAMES))


@pytest.fixture(autouse=True)
def nothing_is_left():
    """No thread of a stage outlives its test."""
    yield
    assert not {"decode", "prepare", "write"} & {thread.name.partition("-")[0] for thread in threading.enumerate()}


@pytest.fixture
def heeded():
    """SIGTERM is not ignored, even if the tests run in the background."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


def encode(clip: Path, to: Path | None = None, context: Context = Context()):
    return pipeline.encode_video(clip, sampling=Sampling(frames=FRAMES), runtime=CPU, to=to, context=context)


def moving(count: int) -> torch.Tensor:
    """Frames (count, 56, 84, 3) of noise."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 56, 84, 3), dtype=torch.uint8, generator=generator)


def during(spans: list[Span], name: str) -> dict[int, Span]:
    """The span of each chunk."""
    return {each.facts["chunk"]: each for each in spans if each.name == name}


def slowed(monkeypatch, owner, name: str, seconds: float) -> None:
    real = getattr(owner, name)

    def slow(*args, **kwargs):
        time.sleep(seconds)
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, slow)


def test_every_stage_works_on_another_chunk_at_the_same_time(clip, tmp_path, monkeypatch):
    for owner, name in (
        (VisionEncoder, "prepare"),
        (VisionEncoder, "start"),
        (FileSink, "append"),
    ):
        slowed(monkeypatch, owner, name, 0.1)
    with recording() as spans:
        encode(clip, tmp_path / "tokens.safetensors")
    stages = [during(spans, name) for name in ("preprocess", "encode", "write")]
    chunks = -(-FRAMES // pipeline.CHUNK)
    assert all(set(stage) == set(range(chunks)) for stage in stages)
    threads = {each.name: each.thread_name for each in spans}
    assert [threads[name] for name in ("decode", "preprocess", "encode", "copy", "write")] == [
        "decode",
        "prepare",
        "main",
        "write",
        "write",
    ]
    preprocess, encoded, write = stages
    for k in range(1, chunks - 1):
        assert preprocess[k + 1].begin < encoded[k].end and encoded[k].begin < preprocess[k + 1].end
        assert write[k - 1].begin < encoded[k].end and encoded[k].begin < write[k - 1].end


@pytest.mark.parametrize("to_file", [False, True])
@pytest.mark.parametrize("stage", ["decode", "prepare", "encode", "write"])
def test_an_error_in_any_stage_ends_all(clip, tmp_path, monkeypatch, stage, to_file):
    def broken(*_, **__):
        raise StsimdiffError(f"{stage} is broken")

    stream = open_stream(clip, Sampling(frames=FRAMES))
    if stage == "decode":
        first = next(iter(stream.chunks))
        stream.chunks.close()

        def chunks():
            yield first
            broken()

        stream = FrameStream(stream.source, stream.count, chunks())
    else:
        owner = {"prepare": VisionEncoder, "encode": VisionEncoder, "write": encoding._Writer}[stage]
        monkeypatch.setattr(owner, {"encode": "start"}.get(stage, stage), broken)
    target = tmp_path / "tokens.safetensors" if to_file else None
    with pytest.raises(StsimdiffError, match=f"{stage} is broken"):
        pipeline.encode_frames(stream, runtime=CPU, to=target)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_does_not_wait_for_a_slow_decoder(clip, monkeypatch):
    """Frames take a minute each after the first chunk; the error comes at once."""
    stopped = threading.Event()
    real = open_stream(clip, Sampling(frames=FRAMES))
    first = next(iter(real.chunks))
    real.chunks.close()

    class Slow:
        begun = False

        def __iter__(self):
            return self

        def __next__(self):
            if not self.begun:
                self.begun = True
                return first
            stopped.wait(60)
            raise StopIteration

        def cancel(self):
            stopped.set()

    def broken(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(encoding, "check_encoded", broken)
    start = time.perf_counter()
    with pytest.raises(OSError, match="No space left"):
        pipeline.encode_frames(FrameStream(real.source, real.count, Slow()), runtime=CPU)
    assert time.perf_counter() - start < 30


def test_an_error_of_the_video_is_the_same_sentence_as_without_threads(clip):
    stream = open_stream(clip, Sampling(frames=FRAMES))

    def chunks():
        yield from ()
        raise VideoError("None of the chosen frames can be decoded.", "Choose others.")

    with pytest.raises(VideoError, match="None of the chosen") as caught:
        pipeline.encode_frames(FrameStream(stream.source, 4, chunks()), runtime=CPU)
    assert caught.value.hint == "Choose others."
    stream.chunks.close()


# --- memory that runs out --------------------------------------------------------------------------------------------


class Full:
    """Memory for at most `most` frames at a time, in place of a step of a family."""

    def __init__(self, real, most: int, frames_of) -> None:
        self.real, self.most, self.frames_of = real, most, frames_of
        self.sizes: list[int] = []

    def __call__(self, *args):
        self.sizes.append(self.frames_of(*args))
        if self.sizes[-1] > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return self.real(*args)


@pytest.mark.parametrize("name", ["llava_onevision", "qwen2_5_vl"])
def test_half_as_many_frames_are_encoded_where_memory_ends(tmp_path, monkeypatch, name):
    frames = moving(8)
    family = open_family(str(CHECKPOINTS[name](tmp_path / "model")))
    encoder, said = VisionEncoder(family, FP32), []
    expected = encoder.encode(frames)["features"]
    depth = family.frames_per_slot

    def frames_of(model, pixels):
        values = pixels["pixel_values_videos"]
        return int(pixels["video_grid_thw"][0, 0]) * depth if depth > 1 else values.shape[1]

    full = Full(family.encode, 2, frames_of)
    monkeypatch.setattr(family, "encode", full)
    found = encoder.start(encoder.prepare(frames, Sizing(8)), said.append).wait()["features"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert full.sizes[:3] == [8, 4, 2] and full.sizes.count(2) == 4
    assert said == [
        "there is not enough memory to encode 8 frames at a time: from here on it is 4.",
        "there is not enough memory to encode 4 frames at a time: from here on it is 2.",
    ]
    full.sizes.clear()
    assert torch.equal(encoder.start(encoder.prepare(frames, Sizing(8))).wait()["features"], found)
    assert full.sizes == [2] * 4  # the next chunk begins with what there is room for


def test_a_command_says_that_fewer_frames_are_encoded_at_a_time(clip, tmp_path, monkeypatch, capsys):
    expected = encode(clip).features.tensor()
    real = VisionEncoder._encode

    def full(self, pixels):
        if pixels["video_grid_thw"][0, 0] > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(self, pixels)

    monkeypatch.setattr(VisionEncoder, "_encode", full)
    out = tmp_path / "tokens.safetensors"
    assert main(["encode", str(clip), "-o", str(out), "--frames", str(FRAMES), "--device", "cpu"]) == 0
    assert capsys.readouterr().err.count("not enough memory to encode 8 frames at a time: from here on it is 4.") == 1
    torch.testing.assert_close(load(out).features.tensor(), expected, rtol=1e-4, atol=1e-4)


def test_one_slot_that_does_not_fit_is_the_error_as_before(tmp_path, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(VisionEncoder, "_encode", full)
    with pytest.raises(StsimdiffError, match="not enough GPU memory to encode the video"):
        pipeline.encode_video(render(tmp_path / "clip.mp4", range(4)), sampling=Sampling(frames=4), runtime=CPU)


def test_pixels_that_find_no_memory_ahead_are_made_when_their_turn_comes(tmp_path, monkeypatch):
    family = open_family(str(CHECKPOINTS["llava_onevision"](tmp_path / "model")))
    encoder, frames = VisionEncoder(family, FP32), moving(4)
    expected = encoder.encode(frames)["features"]
    real, calls = family.preprocess, []

    def once_full(*args):
        calls.append(args)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(*args)

    monkeypatch.setattr(family, "preprocess", once_full)
    prepared = encoder.prepare(frames, Sizing(4))
    assert prepared.batches[0].pixels is None
    assert torch.equal(encoder.start(prepared).wait()["features"], expected)


def test_frames_without_numbers_are_an_error_of_their_chunk(clip, monkeypatch):
    real = VisionEncoder._encode

    def broken(self, pixels):
        out = real(self, pixels)
        return {name: tensor * float("nan") for name, tensor in out.items()}

    monkeypatch.setattr(VisionEncoder, "_encode", broken)
    with pytest.raises(ModelError, match=r"features .* are not numbers"):
        encode(clip)


# --- interrupts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["prepare", "encode", "write"])
def test_an_interrupt_ends_all_stages(clip, tmp_path, monkeypatch, capsys, heeded, stage):
    owner, name = {
        "prepare": (VisionEncoder, "prepare"),
        "encode": (VisionEncoder, "start"),
        "write": (encoding._Writer, "write"),
    }[stage]
    real, calls = getattr(owner, name), []

    def interrupted(*args):
        calls.append(0)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.5)  # in the middle of its work
        return real(*args)

    monkeypatch.setattr(owner, name, interrupted)
    out = tmp_path / "tokens.safetensors"
    start = time.perf_counter()
    assert main(["encode", str(clip), "-o", str(out), "--frames", str(FRAMES), "--device", "cpu"]) == 143
    assert capsys.readouterr().err.endswith("interrupted\n")
    assert time.perf_counter() - start < 30 and list(tmp_path.iterdir()) == []


def test_frames_of_a_chunk_are_not_joined_again(monkeypatch):
    """Chunks that arrive in the right size are handed on as they are."""
    from stsimdiff_cli.video.rechunk import rechunked

    parts = [Frames(torch.zeros(4, 2, 2, 3, dtype=torch.uint8), tuple(map(float, range(4)))) for _ in range(3)]
    out = list(rechunked(parts, 4, []))
    assert [a.pixels.data_ptr() for a in out] == [b.pixels.data_ptr() for b in parts]
