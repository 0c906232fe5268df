"""Decodes videos in processes of their own, ahead of the model that will encode them.

A decoder has one video at a time: if it dies, it is clear of which. It decodes on while nobody takes its frames, until
AHEAD bytes are waiting. pipe_decoders.py has those of this machine, and ray_decoders.py those of a cluster.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ..pipeline import CHUNK
from ..records import Frames, FrameStream
from ..storage.stores import local_copy
from ..video import Sampling, open_stream
from .channel import Channel
from .failures import LateError, RemoteError, failure_of
from .identity import Item
from .job import Task

#: Bytes of frames that a decoder may hold before they are taken: 32 frames of 1920x1080 are 200 MB.
AHEAD = 512 << 20


def messages(item: Item, sampling: Sampling) -> Iterator[tuple[Any, ...]]:
    """What a decoder says about a video: ("open", FrameStream without frames), then ("chunk", Frames) for each part.

    Then ("end",), or, at any point, ("failed", failure, hint) as the last one.
    """
    place = item.path
    try:
        with local_copy(item.path) as path:
            place = str(path)
            stream = open_stream(path, sampling, CHUNK)
            yield "open", replace(stream, chunks=())
            for part in stream.chunks:
                yield "chunk", part
        yield ("end",)
    except Exception as error:
        failure = failure_of(error)
        named = replace(failure, message=failure.message.replace(place, item.path))
        yield "failed", named, getattr(error, "hint", None)


class Decoder(ABC):
    """One decoder, seen from its worker."""

    def __init__(self) -> None:
        self.finished = True  # it has nothing to do

    def start(self, item: Item, sampling: Sampling) -> None:
        """Let it begin with a video."""
        self.finished = False
        self._ask(item, sampling)

    def open(self, limit: float | None) -> FrameStream:
        """The frames of the video. Raises LateError after `limit` seconds, LostError, or what the decoder met."""
        deadline = None if limit is None else time.monotonic() + limit
        _, stream = self._next("open", deadline)
        return replace(stream, chunks=self._chunks(deadline))

    @property
    @abstractmethod
    def ready(self) -> bool:
        """Whether a message is waiting, or the decoder has died."""

    @abstractmethod
    def end(self) -> None:
        """Kill it; it writes nothing."""

    @abstractmethod
    def _ask(self, item: Item, sampling: Sampling) -> None:
        """Send what is to be decoded. One that has died says nothing here, but when its frames are read."""

    @abstractmethod
    def _receive(self, deadline: float | None) -> tuple[Any, ...]:
        """The next message. LateError after the deadline (of time.monotonic), LostError if the decoder has died."""

    def _chunks(self, deadline: float | None) -> Iterator[Frames]:
        while (message := self._next("chunk", deadline))[0] != "end":
            yield message[1]

    def _next(self, wanted: str, deadline: float | None) -> tuple[Any, ...]:
        message = self._receive(deadline)
        self.finished = message[0] in ("failed", "end")
        if message[0] == "failed":
            raise RemoteError(message[1], message[2])
        if message[0] not in (wanted, "end"):
            raise ValueError(f"expected a message {wanted!r}, got {message[0]!r}")
        return message


def late() -> LateError:
    """The error of a decoder that took too long."""
    return LateError("Decoding took longer than --timeout allows.")


class Decoders(ABC):
    """The decoders of one worker."""

    def __init__(self, count: int) -> None:
        self._idle = [self._new() for _ in range(count)]
        self._busy: dict[str, Any] = {}
        self._tasks: dict[str, Task] = {}

    @abstractmethod
    def _new(self) -> Decoder:
        """A decoder."""

    @abstractmethod
    def wait_for_something(self, channel: Channel) -> None:
        """Until a decoder or the channel has something to say."""

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
        stream: FrameStream = self._busy[task.item.id].open(task.limit)
        return stream

    def close(self, task: Task) -> None:
        """The task is done: its decoder is free for another one. One that is not at its end is replaced."""
        decoder = self._busy.pop(task.item.id, None)
        self._tasks.pop(task.item.id, None)
        if decoder is not None:
            if not decoder.finished:
                decoder.end()
                decoder = self._new()
            self._idle.append(decoder)
