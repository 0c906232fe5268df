"""Decoding in processes of its own: the same frames, and every way to end badly."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from stsimdiff_cli.archive import pipe_decoders as module
from stsimdiff_cli.archive.decoders import Decoders
from stsimdiff_cli.archive.failures import LateError, LostError, RemoteError
from stsimdiff_cli.archive.identity import identified
from stsimdiff_cli.archive.job import Task
from stsimdiff_cli.archive.sources import find
from stsimdiff_cli.video import Sampling, open_stream

pytestmark = pytest.mark.slow
SAMPLING = Sampling(8)


@pytest.fixture(scope="module")
def decoders():
    with module.PipeDecoders(2) as decoders:
        yield decoders


def task(path: Path, limit: float | None = 60.0) -> Task:
    (item,) = identified(find([str(path)], None, False))
    return Task(item, "", limit=limit)


def started(decoders: Decoders, *tasks: Task) -> None:
    for each in tasks:
        decoders.start(each, SAMPLING)


def pixels(stream) -> torch.Tensor:
    return torch.cat([part.pixels for part in stream.chunks])


def test_frames_are_those_of_this_process_also_of_two_videos_at_once(corpus, decoders):
    one, other = task(corpus / "a.mp4"), task(corpus / "b.mkv")
    started(decoders, one, other)
    assert not decoders.free
    for each in (other, one):
        stream, here = decoders.open(each), open_stream(each.item.path, SAMPLING)
        assert (stream.source, stream.count) == (here.source, here.count)
        assert torch.equal(pixels(stream), pixels(here))
        decoders.close(each)
    assert decoders.free


def test_a_failure_keeps_its_words_and_the_decoder_goes_on(corpus, decoders):
    bad = task(corpus / "cut.mp4")
    started(decoders, bad)
    with pytest.raises(RemoteError, match="without a usable index") as caught:
        decoders.open(bad)
    assert caught.value.failure.type == "VideoError" and not caught.value.failure.transient
    process = decoders._busy[bad.item.id]._process.pid
    decoders.close(bad)
    assert process in {decoder._process.pid for decoder in decoders._idle}


def test_a_decoder_that_is_killed_fails_its_video_alone_and_is_replaced(corpus, decoders):
    bad, good = task(corpus / "a.mp4"), task(corpus / "b.mkv")
    started(decoders, bad)
    os.kill(decoders._busy[bad.item.id]._process.pid, signal.SIGSTOP)  # before it can have sent everything
    started(decoders, good)
    os.kill(decoders._busy[bad.item.id]._process.pid, signal.SIGKILL)
    with pytest.raises(LostError, match="SIGKILL"):
        pixels(decoders.open(bad))
    decoders.close(bad)
    assert len(pixels(decoders.open(good))) == 8
    decoders.close(good)
    assert len(decoders._idle) == 2


def test_a_decoder_that_hangs_is_late(corpus, decoders):
    bad = task(corpus / "a.mp4", limit=0.3)
    started(decoders, bad)
    pid = decoders._busy[bad.item.id]._process.pid
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(LateError):
        pixels(decoders.open(bad))
    decoders.close(bad)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_stream_that_is_given_up_does_not_disturb_the_next(corpus, decoders):
    one = task(corpus / "a.mp4")
    started(decoders, one)
    next(iter(decoders.open(one).chunks))
    decoders.close(one)
    started(decoders, one)
    assert len(pixels(decoders.open(one))) == 8
    decoders.close(one)


def test_a_decoder_does_not_hold_more_than_it_may(monkeypatch):
    """In this process: the sender waits for room, and the first message always has some."""
    receiver, sender = module.context().Pipe(duplex=False)
    monkeypatch.setattr(module, "AHEAD", 100)
    large, small = (torch.arange(size).to(torch.uint8) for size in (1 << 20, 10))
    taken: list[bytes] = []
    read, went_on = threading.Event(), threading.Event()

    def take() -> None:
        read.wait(60)
        for part in (large, small):
            receiver.recv()
            left = part.numel()
            while left:
                taken.append(os.read(receiver.fileno(), left))
                left -= len(taken[-1])

    def send() -> None:
        sending.put(("chunk",), small)
        went_on.set()

    sending = module._Sender(sender)
    sending.put(("chunk",), large)  # nothing was waiting
    threads = [threading.Thread(target=work) for work in (take, send)]
    for thread in threads:
        thread.start()
    assert not went_on.wait(0.2), "there was no room before the first part was taken"
    read.set()
    assert went_on.wait(60)
    sending.finish()
    for thread in threads:
        thread.join()
    assert b"".join(taken) == bytes(large.numpy()) + bytes(small.numpy())


def test_a_decoder_whose_worker_has_ended_stops():
    receiver, sender = module.context().Pipe(duplex=False)
    receiver.close()
    sending = module._Sender(sender)
    with pytest.raises(OSError):
        for _ in range(1000):
            sending.put(("chunk",), torch.zeros(1 << 16, dtype=torch.uint8))
            time.sleep(0.001)
