"""Decodes videos in processes of their own, ahead of the model that will encode them.

Frames come through pipes. Shared memory was measured too (22 MB, 8 frames of 1280x720): a pipe took 4.5 ms of either
process, shared memory 2.7 ms, and decoding these frames about 120 ms. For that, shared memory would bring its own
limits (64 MB in a usual container) and segments that stay when processes are killed.

A decoder has one video at a time: if it dies, it is clear of which. It decodes on while nobody takes its frames, until
AHEAD bytes are waiting.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from ..pipeline import CHUNK
from ..records import Frames, FrameStream
from ..video import Sampling, open_stream
from .child import context, how_it_ended, settle
from .failures import LateError, LostError, RemoteError, failure_of
from .identity import Item
from .job import Job, Task

#: Bytes of frames that a decoder may hold before they are taken: 32 frames of 1920x1080 are 200 MB.
AHEAD = 512 << 20
_PATIENCE = 1.0  # seconds for a decoder to end by itself


class Decoders:
    """The decoders of one worker."""

    def __init__(self, job: Job, count: int) -> None:
        self._idle = [_Decoder() for _ in range(count)]
        self._busy: dict[str, _Decoder] = {}
        self._tasks: dict[str, Task] = {}
        self._job = job

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, *_: object) -> None:
        for decoder in [*self._idle, *self._busy.values()]:
            decoder.end()

    @property
    def free(self) -> bool:
        """Whether a decoder has nothing to do."""
        return bool(self._idle)

    def start(self, task: Task, sampling: Sampling) -> None:
        """Let a decoder begin with a task."""
        decoder = self._idle.pop()
        self._busy[task.item.id], self._tasks[task.item.id] = decoder, task
        decoder.start(task.item, sampling)

    def next_ready(self) -> Task | None:
        """The task that began first of those whose first frames are there, or that failed; None if there is none."""
        return next((self._tasks[id_] for id_, decoder in self._busy.items() if decoder.ready), None)

    def open(self, task: Task) -> FrameStream:
        """The frames of a task that was started."""
        return self._busy[task.item.id].open(task.limit)

    def close(self, task: Task) -> None:
        """The task is done: its decoder is free for another one. One that is not at its end is replaced."""
        decoder = self._busy.pop(task.item.id, None)
        self._tasks.pop(task.item.id, None)
        if decoder is not None:
            if not decoder.finished:
                decoder.end()
                decoder = _Decoder()
            self._idle.append(decoder)

    def wait_for_something(self, pipe: Connection) -> None:
        """Until a decoder or the pipe has something to say."""
        wait([pipe, *(decoder.frames for decoder in self._busy.values())])


class _Decoder:
    """One process that decodes, seen from the worker."""

    def __init__(self) -> None:
        started = context()
        asked, self._ask = started.Pipe(duplex=False)
        self.frames, sent = started.Pipe(duplex=False)
        self._process = started.Process(target=_main, args=(asked, sent), name="decoder")
        self._process.start()
        asked.close()
        sent.close()
        self.finished = True

    def start(self, item: Item, sampling: Sampling) -> None:
        self.finished = False
        with suppress(BrokenPipeError, ConnectionResetError):  # it has ended, which will show when frames are read
            self._ask.send((item, sampling))

    @property
    def ready(self) -> bool:
        return self.frames.poll()

    def open(self, limit: float | None) -> FrameStream:
        deadline = None if limit is None else time.monotonic() + limit
        _, stream = self._next("open", deadline)
        return replace(stream, chunks=self._chunks(deadline))

    def _chunks(self, deadline: float | None) -> Iterator[Frames]:
        while True:
            kind, *about = self._next("chunk", deadline)
            if kind == "end":
                self.finished = True
                return
            shape, seconds, missing = about
            pixels = torch.empty(shape, dtype=torch.uint8)
            self._fill(pixels, deadline)
            yield Frames(pixels, seconds, missing)

    def _next(self, wanted: str, deadline: float | None) -> tuple[Any, ...]:
        """The next message. LateError, LostError, or the failure that the decoder met."""
        self._wait(deadline)
        try:
            message: tuple[Any, ...] = self.frames.recv()
        except (EOFError, OSError) as error:
            raise self._lost() from error
        if message[0] == "failed":
            self.finished = True
            raise RemoteError(message[1], message[2])
        if message[0] not in (wanted, "end"):
            raise ValueError(f"expected a message {wanted!r}, got {message[0]!r}")
        return message

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
            raise LateError("Decoding took longer than --timeout allows.")

    def _lost(self) -> LostError:
        self._process.join(_PATIENCE)
        return LostError(f"The process that decoded it {how_it_ended(self._process.exitcode)}.")

    def end(self) -> None:
        self._process.kill()  # it writes nothing
        self._process.join()
        self.frames.close()
        self._ask.close()


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
        stream = open_stream(item.path, sampling, CHUNK)
        sender.put(("open", replace(stream, chunks=())))
        for part in stream.chunks:
            sender.put(("chunk", tuple(part.pixels.shape), part.seconds, part.missing_seconds), part.pixels)
        sender.put(("end",))
    except Exception as error:
        sender.put(("failed", failure_of(error), getattr(error, "hint", None)))
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
