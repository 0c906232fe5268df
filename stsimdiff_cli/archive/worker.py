"""What a worker does: it gets tasks through a channel and sends back stages and rows."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ..storage.reading import is_stored
from ..storage.stores import is_url
from .channel import Channel
from .child import settle
from .decoders import Decoders
from .job import Job, Performer, Task
from .pipe_decoders import PipeDecoders
from .sources import STORED

#: Decoders for each worker on a GPU, if nobody says otherwise and there are cores enough.
MOST_DECODERS = 8


@dataclass(frozen=True)
class Plan:
    """How a worker works: on which device, with how many threads of torch, and decoders ahead of it."""

    job: Job
    device: str
    threads: int
    decoders: int = 0

    @property
    def depth(self) -> int:
        """How many tasks it may hold: what is decoded ahead, and what the model works on."""
        return self.decoders + 1


def main(pipe: Connection, plan: Plan) -> None:
    """What runs in a worker process of this machine: do tasks until the end of the pipe."""
    settle(plan.threads)
    with PipeDecoders(plan.decoders) as decoders:
        work(pipe, plan, decoders)


def work(channel: Channel, plan: Plan, decoders: Decoders) -> None:
    """Do tasks until there are no more: None, or the end of the channel."""
    job = replace(plan.job, runtime=replace(plan.job.runtime, device=plan.device))
    try:
        if plan.decoders:
            _Ahead(channel, job, decoders).run()
        else:
            _one_by_one(channel, job)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the parent has ended, and with it the reason to work


def _one_by_one(channel: Channel, job: Job) -> None:
    current = ""
    performer = Performer(job, lambda stage: channel.send(("stage", current, stage)))
    while (task := channel.recv()) is not None:
        current = task.item.id
        channel.send(("done", current, performer(task)))


class _Ahead:
    """Tasks are handed to decoders as they come, and done in the order in which their first frames are ready."""

    def __init__(self, channel: Channel, job: Job, decoders: Decoders) -> None:
        self._channel, self._decoders, self._job = channel, decoders, job
        self._current: Task | None = None
        self._performer = Performer(job, self._tell, self._open)
        self._waiting: deque[Task] = deque()  # for a decoder
        self._ready: deque[Task] = deque()  # need none
        self._over = False

    def run(self) -> None:
        while not self._over:
            self._receive(block=False)
            while self._waiting and self._decoders.free:
                task = self._waiting.popleft()
                self._decoders.start(task, self._job.sampling_of(task.item))
            following = self._ready.popleft() if self._ready else self._decoders.next_ready()
            if following is not None:
                self._current = following
                row = self._performer(following)
                self._decoders.close(following)
                self._channel.send(("done", following.item.id, row))
            elif not self._over:
                self._decoders.wait_for_something(self._channel)

    def _receive(self, block: bool) -> None:
        while block or self._channel.poll():
            task = self._channel.recv()
            if task is None:
                self._over = True
                return
            (self._ready if task.probe or _needs_no_frames(task, self._job) else self._waiting).append(task)
            block = False

    def _tell(self, stage: str) -> None:
        if self._current is not None:
            self._channel.send(("stage", self._current.item.id, stage))

    def _open(self, item: Any, sampling: Any) -> Any:  # noqa: ARG002  the decoder was told when it began
        if self._current is None:
            raise ValueError("expected a task, got none")
        return self._decoders.open(self._current)


def _needs_no_frames(task: Task, job: Job) -> bool:
    """Whether it is a tokens file, or will fail as soon as it is opened."""
    try:
        if is_url(task.item.path):
            return task.item.path.endswith(STORED)
        return job.method is not None and is_stored(Path(task.item.path))
    except Exception:
        return True
