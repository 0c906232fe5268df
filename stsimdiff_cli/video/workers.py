"""Reads the parts of a video with several workers, and delivers chunks in order.

parts      0   1   2   3   4   5        each is read by the next worker that is free
chunks   | 0     | 1     | 2     |      each is delivered when all parts that reach into it are read so far
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from ..timing.spans import span
from .chunks import ChunkReader
from .decoding import StoppedError
from .dividing import Division
from .ffmpeg_log import listening, silenced


class PartReader(ChunkReader, Protocol):
    """A reader of which several work at the same time."""

    @property
    def lost(self) -> bool:
        """True once seeks in the file have gone wrong, so that it is read from its beginning."""


class Workers:
    """Threads with a reader each, which write into chunks that are handed out in order.

    Threads, because FFmpeg works without Python's lock, and pixels need not be copied. A worker takes the next part,
    and waits before a chunk that is `ahead` chunks or more after the last one asked for. What is delivered is what one
    reader would deliver: an error comes in the place of its chunk, and once seeks go wrong in a part, its worker goes
    on alone from there, since a file is then read from its beginning.
    """

    def __init__(
        self,
        open_reader: Callable[[], PartReader],
        division: Division,
        chosen: Sequence[int],
        chunk: int,
        shape: tuple[int, int],
    ) -> None:
        self._open, self._division = open_reader, division
        self._chosen, self._size, self._shape = chosen, chunk, shape
        self._parts = division.parts
        self._opening = threading.Lock()  # one at a time: while a file is opened, FFmpeg's log is on
        self._change = threading.Condition()
        # All below only with the condition's lock.
        self._threads: list[threading.Thread] = []
        self._stopped = False
        self._readers: dict[int, PartReader] = {}  # worker -> its reader
        self._at: dict[int, int] = {}  # worker -> the part that it reads
        self._begun = 0  # parts that were taken
        self._alone: int | None = None  # the worker that goes on alone
        self._cancelled: set[int] = set()  # workers that shall stop
        self._asked = 0  # the chunk that the consumer asked for last
        self._chunks: dict[int, tuple[Tensor, list[bool]]] = {}  # pixels, and which frames are there
        self._done: set[tuple[int, int]] = set()  # part and chunk: what lies in both is read
        self._errors: dict[int, BaseException] = {}  # part -> what went wrong in it

    # The consumer's side.

    def chunk(self, number: int) -> tuple[Tensor, list[bool]]:
        """The pixels of a chunk (n, height, width, 3), and for each frame whether it is there.

        To be called for each chunk once, in order. Raises what a reader raised, and StoppedError after `cancel`.
        """
        with self._change:
            self._asked = number
            self._start()
            self._change.notify_all()
            while not self._ready(number):
                self._change.wait()
            return self._chunks.pop(number)

    def cancel(self) -> None:
        """Let all workers end soon. May be called from any thread."""
        with self._change:
            self._stopped = True
            for worker in range(self._division.workers):
                self._cancel(worker)
            self._change.notify_all()

    def close(self) -> None:
        """Stop, and wait until the last worker has closed its file."""
        self.cancel()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        with self._change:
            self._chunks.clear()

    def _start(self) -> None:
        if self._threads or self._stopped:
            return
        for worker in range(self._division.workers):
            thread = threading.Thread(target=self._work, args=(worker,), name=f"decode-{worker}", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system allows no more threads
                if not self._threads:
                    raise
                return
            self._threads.append(thread)

    def _ready(self, number: int) -> bool:
        """True if a chunk is complete. Raises the error that comes first in it."""
        if self._stopped:
            raise StoppedError
        first, end = number * self._size, min((number + 1) * self._size, len(self._chosen))
        for part, frames in enumerate(self._parts):
            if frames.start < end and frames.stop > first and (part, number) not in self._done:
                if part in self._errors:
                    raise self._errors[part]
                return False
        return True

    # The workers' side.

    def _work(self, worker: int) -> None:
        # With the log on as long as a worker lives, it is not switched off while another one writes to it.
        with listening() if self._division.threads == 1 else silenced():
            self._read_parts(worker)

    def _read_parts(self, worker: int) -> None:
        reader: PartReader | None = None
        try:
            while (part := self._take(worker)) is not None:
                try:
                    if reader is None:
                        with self._opening:
                            reader = self._open()
                        self._enlist(worker, reader)
                    self._read(worker, reader, part)
                except StoppedError:
                    return
                except BaseException as error:  # whatever it is, the consumer gets it
                    self._fail(part, error)
                    return
        finally:
            if reader is not None:
                reader.close()
            with self._change:
                self._at.pop(worker, None)
                self._readers.pop(worker, None)
                self._change.notify_all()

    def _take(self, worker: int) -> int | None:
        """The next part for a worker, None if there is none."""
        with self._change:
            last = min(self._errors, default=len(self._parts))  # nobody will ask for the parts after an error
            if worker in self._cancelled or self._alone not in (None, worker):
                return None
            part = self._begun if self._alone is None else self._at[worker] + 1
            if part >= last:
                return None
            self._begun = max(self._begun, part + 1)
            self._at[worker] = part
            return part

    def _enlist(self, worker: int, reader: PartReader) -> None:
        with self._change:
            self._readers[worker] = reader
            if worker in self._cancelled:
                raise StoppedError

    def _read(self, worker: int, reader: PartReader, part: int) -> None:
        frames = self._parts[part]
        for number in range(frames.start // self._size, (frames.stop - 1) // self._size + 1):
            first = number * self._size
            begin, end = max(frames.start, first), min(frames.stop, first + self._size)
            pixels, there = self._room(worker, number)
            inside = slice(begin - first, end - first)
            with span("decode", chunk=number, frames=end - begin):
                there[inside] = reader.read(self._chosen[begin:end], pixels[inside])
            del pixels, there  # not held while this worker waits
            self._go_on_alone_if_lost(worker, reader, part)
            with self._change:
                if worker in self._cancelled:
                    raise StoppedError
                self._done.add((part, number))
                self._change.notify_all()

    def _room(self, worker: int, number: int) -> tuple[Tensor, list[bool]]:
        """The memory of a chunk, as soon as the consumer is near enough."""
        with self._change:
            while number >= self._asked + self._division.ahead and worker not in self._cancelled:
                self._change.wait()
            if worker in self._cancelled:
                raise StoppedError
            if number not in self._chunks:
                count = min(self._size, len(self._chosen) - number * self._size)
                self._chunks[number] = torch.empty((count, *self._shape, 3), dtype=torch.uint8), [False] * count
            return self._chunks[number]

    def _go_on_alone_if_lost(self, worker: int, reader: PartReader, part: int) -> None:
        """If seeks went wrong in a part, stop the workers after it and forget what they did.

        To be called before a chunk is handed on: the consumer could take the next one from another worker.
        """
        if not reader.lost:
            return
        with self._change:
            if worker in self._cancelled:
                raise StoppedError
            if self._alone == worker:
                return
            self._alone = worker  # if another went on alone before, it was in a later part
            later = [other for other, at in self._at.items() if at > part and other != worker]
            for other in later:
                self._cancel(other)
            self._change.notify_all()
            while any(other in self._at for other in later):
                self._change.wait()
            if worker in self._cancelled:
                raise StoppedError
            self._done = {(p, number) for p, number in self._done if p <= part}
            self._errors = {p: error for p, error in self._errors.items() if p <= part}

    def _fail(self, part: int, error: BaseException) -> None:
        """Keep an error for the consumer, and stop the workers after its part."""
        with self._change:
            self._errors[part] = error
            for other, at in self._at.items():
                if at > part:
                    self._cancel(other)
            self._change.notify_all()

    def _cancel(self, worker: int) -> None:
        self._cancelled.add(worker)
        if worker in self._readers:
            self._readers[worker].cancel()
