"""The decoders of a worker on this machine: processes that are forked for it.

Frames come through pipes. Shared memory was measured too (22 MB, 8 frames of 1280x720): a pipe took 4.5 ms of either
process, shared memory 2.7 ms, and decoding these frames about 120 ms. For that, shared memory would bring its own
limits (64 MB in a usual container) and segments that stay when processes are killed.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from ..records import Frames
from ..video import Sampling
from .channel import Channel
from .child import context, how_it_ended, settle
from .decoders import AHEAD, Decoder, Decoders, late, messages
from .failures import LostError
from .identity import Item

_PATIENCE = 1.0  # seconds for a decoder to end by itself


class PipeDecoders(Decoders):
    """Decoders that are processes of this machine."""

    def _new(self) -> Decoder:
        return _Process()

    def wait_for_something(self, channel: Channel) -> None:
        """Until a decoder or the channel (a pipe, too) has something to say."""
        wait([channel, *(decoder.frames for decoder in self._busy.values())])  # type: ignore[list-item]


class _Process(Decoder):
    def __init__(self) -> None:
        super().__init__()
        started = context()
        asked, self._questions = started.Pipe(duplex=False)
        self.frames, sent = started.Pipe(duplex=False)
        self._process = started.Process(target=_main, args=(asked, sent), name="decoder")
        self._process.start()
        asked.close()
        sent.close()

    @property
    def ready(self) -> bool:
        return self.frames.poll()

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self.frames.close()
        self._questions.close()

    def _ask(self, item: Item, sampling: Sampling) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):
            self._questions.send((item, sampling))

    def _receive(self, deadline: float | None) -> tuple[Any, ...]:
        self._wait(deadline)
        try:
            message: tuple[Any, ...] = self.frames.recv()
        except (EOFError, OSError) as error:
            raise self._lost() from error
        if message[0] != "chunk":
            return message
        _, shape, seconds, missing = message
        pixels = torch.empty(shape, dtype=torch.uint8)
        self._fill(pixels, deadline)
        return "chunk", Frames(pixels, seconds, missing)

    def _fill(self, pixels: torch.Tensor, deadline: float | None) -> None:
        view = _bytes_of(pixels) if pixels.numel() else memoryview(b"")
        if not hasattr(os, "readv"):  # Windows
            if view:
                self.frames.recv_bytes_into(view)
            return
        while view:
            self._wait(deadline)
            count = os.readv(self.frames.fileno(), [view])
            if not count:
                raise self._lost()
            view = view[count:]

    def _wait(self, deadline: float | None) -> None:
        if deadline is not None and not self.frames.poll(max(deadline - time.monotonic(), 0.0)):
            raise late()

    def _lost(self) -> LostError:
        self._process.join(_PATIENCE)
        return LostError(f"The process that decoded it {how_it_ended(self._process.exitcode)}.")


# --- in the decoder's process ---------------------------------------------------------------------------------------


def _main(asked: Connection, sent: Connection) -> None:
    settle()
    try:
        while True:
            item, sampling = asked.recv()
            _decode(item, sampling, sent)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the worker has ended


def _decode(item: Item, sampling: Sampling, pipe: Connection) -> None:
    sender = _Sender(pipe)
    try:
        for message in messages(item, sampling):
            if message[0] == "chunk":
                part: Frames = message[1]
                sender.put(("chunk", tuple(part.pixels.shape), part.seconds, part.missing_seconds), part.pixels)
            else:
                sender.put(message)
    finally:
        sender.finish()


class _Sender:
    """Writes messages in a thread, while more are made."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._queue: deque[tuple[tuple[Any, ...], torch.Tensor | None] | None] = deque()
        self._changed = threading.Condition()
        self._bytes = 0
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._send, name="send frames", daemon=True)
        self._thread.start()

    def put(self, message: tuple[Any, ...], pixels: torch.Tensor | None = None) -> None:
        size = 0 if pixels is None else pixels.numel()
        with self._changed:
            self._changed.wait_for(lambda: self._error or not self._bytes or self._bytes + size <= AHEAD)
            if self._error:
                raise self._error
            self._bytes += size
            self._queue.append((message, pixels))
            self._changed.notify_all()

    def finish(self) -> None:
        """Wait until everything is written."""
        with self._changed:
            self._queue.append(None)
            self._changed.notify_all()
        self._thread.join()
        if self._error:
            raise self._error

    def _send(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: bool(self._queue))
                    entry = self._queue.popleft()
                if entry is None:
                    return
                message, pixels = entry
                self._pipe.send(message)
                if pixels is not None and pixels.numel():
                    _write(self._pipe, _bytes_of(pixels.contiguous()))
                    with self._changed:
                        self._bytes -= pixels.numel()
                        self._changed.notify_all()
        except Exception as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()


def _write(pipe: Connection, view: memoryview) -> None:
    if not hasattr(os, "readv"):  # Windows
        pipe.send_bytes(view)
        return
    while view:
        view = view[os.write(pipe.fileno(), view) :]


def _bytes_of(pixels: torch.Tensor) -> memoryview:
    """The memory of a tensor."""
    array: Any = pixels.numpy()
    return memoryview(array).cast("B")
