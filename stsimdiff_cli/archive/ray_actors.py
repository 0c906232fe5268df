"""What runs on the nodes of a Ray cluster: workers with a model, and decoders that belong to a worker."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import ray
import torch

from ..records import Frames
from ..video import Sampling
from .channel import Channel
from .child import end_now
from .decoders import Decoder, Decoders, late, messages
from .failures import LostError
from .identity import Item
from .job import Task
from .worker import Plan, work

#: Parts of a video that a decoder may send before they are taken: of 1920x1080, 400 MB.
_PARTS = 8
_LOOK = 0.05  # seconds between two looks for a task while decoders are at work


def worker_actor(plan: Plan) -> Any:
    """Start a worker: an actor on some node with a CPU, and a GPU if that is its device."""
    on_gpu = plan.device.startswith("cuda")
    actor: Any = _Worker
    return actor.options(num_gpus=1 if on_gpu else 0).remote(plan)


@ray.remote(num_cpus=1, scheduling_strategy="SPREAD", concurrency_groups={"messages": 1, "end": 1})
class _Worker:
    """Works in a thread. Tasks come by `put`; `run` streams what is to be said."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._channel = _Mailbox()

    def put(self, task: Task) -> None:
        self._channel.tasks.put(task)

    @ray.method(concurrency_group="messages", num_returns="streaming")
    def run(self) -> Iterator[tuple[Any, ...]]:
        threading.Thread(target=self._work, name="work", daemon=True).start()
        while (message := self._channel.said.get()) is not None:
            yield message

    @ray.method(concurrency_group="end")
    def end(self) -> None:
        end_now(0)

    def _work(self) -> None:
        try:
            torch.set_num_threads(self._plan.threads)
            with _RayDecoders(self._plan.decoders) as decoders:
                self._channel.send(("ready", "", None))
                work(self._channel, self._plan, decoders)
        finally:
            self._channel.said.put(None)


class _Mailbox:
    """A channel (see channel.py) between the threads of an actor."""

    def __init__(self) -> None:
        self.tasks: queue.Queue[Task] = queue.Queue()
        self.said: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def poll(self) -> bool:
        return not self.tasks.empty()

    def recv(self) -> Task:
        return self.tasks.get()

    def send(self, message: Any) -> None:
        self.said.put(message)


class _RayDecoders(Decoders):
    """Decoders that are actors, on whatever nodes have a CPU to spare. They die with their worker."""

    def __init__(self, count: int) -> None:
        self._cpus = 1
        super().__init__(count)
        self._cpus = 0  # one that replaces another takes the other's share, which may not be free again yet

    def _new(self) -> Decoder:
        actor: Any = _Decoding
        return _ActorDecoder(actor.options(num_cpus=self._cpus).remote())

    def wait_for_something(self, channel: Channel) -> None:
        """Until a decoder or the channel has something to say."""
        streams = [decoder.stream for decoder in self._busy.values()]
        while not channel.poll():
            if not streams:
                time.sleep(_LOOK)
            elif ray.wait(streams, timeout=_LOOK)[0]:
                return


@ray.remote
class _Decoding:
    @ray.method(num_returns="streaming", _generator_backpressure_num_objects=_PARTS)
    def decode(self, item: Item, sampling: Sampling) -> Iterator[tuple[Any, ...]]:
        for message in messages(item, sampling):
            if message[0] == "chunk":  # as an array, which Ray shares between the processes of a node
                part: Frames = message[1]
                yield "chunk", part.pixels.numpy(), part.seconds, part.missing_seconds
            else:
                yield message


class _ActorDecoder(Decoder):
    def __init__(self, actor: Any) -> None:
        super().__init__()
        self._actor = actor
        self.stream: Any = None

    @property
    def ready(self) -> bool:
        return bool(ray.wait([self.stream], timeout=0)[0])

    def end(self) -> None:
        ray.kill(self._actor)

    def _ask(self, item: Item, sampling: Sampling) -> None:
        self.stream = self._actor.decode.remote(item, sampling)

    def _receive(self, deadline: float | None) -> tuple[Any, ...]:
        timeout = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        if not ray.wait([self.stream], timeout=timeout)[0]:
            raise late()
        try:
            message: tuple[Any, ...] = ray.get(next(self.stream))
        except (StopIteration, ray.exceptions.RayError) as error:
            raise LostError("The process that decoded it ended unexpectedly.") from error
        if message[0] == "chunk":
            return "chunk", Frames(torch.from_numpy(message[1].copy()), *message[2:])  # what is shared is read-only
        return message
