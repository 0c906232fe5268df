"""Workers that are actors of a Ray cluster, seen from the program that was started.

Only actors and messages of Ray are used: what is tried again, and when, is the schedule's decision, as with worker
processes. An actor that dies, alone or with its node, is Gone; another one takes its place as soon as the cluster has
room for it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from ..errors import RequestError, StsimdiffError
from .job import Job, Task
from .pool import Done, Event, Gone, Joined, Stage
from .schedule import Worker
from .worker import MOST_DECODERS, Plan

_PATIENCE = 2.0  # seconds for workers to end by themselves
_LONGEST = 60.0  # seconds between two looks at the clock
_ALONE = 600.0  # seconds without any worker, after which the cluster is given up


def import_ray() -> Any:
    """The module. RequestError if it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # what it says about dead workers would go to stdout
    try:
        import ray
    except ImportError as error:
        raise RequestError(
            "--executor ray needs Ray, which is not installed.", "pip install 'stsimdiff[ray]'"
        ) from error
    return ray


@contextmanager
def connected() -> Iterator[Any]:
    """Ray, connected to the cluster that RAY_ADDRESS names, or that runs on this machine, or else to one made here.

    StsimdiffError if there is no such cluster. A connection that was there before stays.
    """
    ray = import_ray()
    ours = not ray.is_initialized()
    if ours:
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            ray.init(logging_level="ERROR", log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            where = os.environ.get("RAY_ADDRESS", "this machine")
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise StsimdiffError(
                f"There is no Ray cluster at {where}: {reason}",
                "Start one with `ray start --head`, and set RAY_ADDRESS to its address.",
            ) from error
        for number, handler in handlers.items():  # how the program stops is not Ray's decision
            signal.signal(number, handler)
    try:
        yield ray
    finally:
        if ours:
            ray.shutdown()


def ray_plans(job: Job, ray: Any, workers: int | None, decoders: int | None, items: int) -> list[Plan]:
    """How the cluster is shared out: one worker a GPU, or without GPUs one a CPU, and CPUs that decode for GPUs.

    RequestError for more than the cluster has.
    """
    total = ray.cluster_resources()
    cpus, gpus = int(total.get("CPU", 0)), int(total.get("GPU", 0))
    on_gpu = job.runtime.device.startswith("cuda") or (job.runtime.device == "auto" and gpus > 0)
    if workers is None:
        workers = max(1, min(gpus if on_gpu else cpus, items))
    if decoders is None:
        decoders = max(0, min(MOST_DECODERS, cpus // workers - 1)) if on_gpu else 0
    if on_gpu and workers > gpus:
        raise RequestError(f"The cluster has {gpus} GPUs, for {workers} workers.", "Give fewer --workers.")
    if (wanted := workers * (1 + decoders)) > cpus:
        raise RequestError(
            f"The cluster has {cpus} CPUs, and {workers} workers with {decoders} decoders each need {wanted}.",
            "Give fewer --workers or --decoders, or add nodes.",
        )
    threads = int(os.environ.get("OMP_NUM_THREADS") or 1)
    return [Plan(job, "cuda" if on_gpu else "cpu", threads, decoders)] * workers


@dataclass
class _Actor:
    handle: Any
    messages: Any  # the stream of its messages
    plan: Plan
    here: bool = False  # it has started


class RayPool:
    """Actors of a cluster; one that dies is replaced. See pool.Pool."""

    def __init__(self, ray: Any, plans: Sequence[Plan]) -> None:
        from .ray_actors import worker_actor

        self.size, self.depth = len(plans), plans[0].depth
        self._ray, self._make = ray, worker_actor
        self._actors: dict[Worker, _Actor] = {}
        self._count = 0
        self._alone_since = self.now()
        for plan in plans:
            self._start(plan)

    def _start(self, plan: Plan) -> None:
        handle = self._make(plan)
        self._count += 1
        self._actors[self._count] = _Actor(handle, handle.run.remote(), plan)

    def workers(self) -> Sequence[Worker]:
        """Those that have started. The others join when the cluster has started them."""
        return [name for name, actor in self._actors.items() if actor.here]

    def submit(self, worker: Worker, task: Task) -> None:
        """Send a task. If the worker has just died, it will be Gone."""
        self._actors[worker].handle.put.remote(task)

    def wait(self, until: float | None) -> list[Event]:
        """Messages of workers, and the ends of some. StsimdiffError if there has been no worker for a long time."""
        timeout = _LONGEST if until is None else min(max(until - self.now(), 0.0), _LONGEST)
        by_stream = {actor.messages: name for name, actor in self._actors.items()}
        ready, _ = self._ray.wait(list(by_stream), num_returns=1, timeout=timeout)
        if len(ready) < len(by_stream):
            ready += self._ray.wait(
                [stream for stream in by_stream if stream not in ready], num_returns=len(by_stream) - 1, timeout=0
            )[0]
        events: list[Event] = []
        for stream in ready:
            events += self._messages(by_stream[stream])
        self._check_alone()
        return events

    def _messages(self, name: Worker) -> list[Event]:
        actor, events = self._actors[name], list[Event]()
        try:
            while self._ray.wait([actor.messages], timeout=0)[0]:
                kind, id_, content = self._ray.get(next(actor.messages))
                if kind == "ready":
                    actor.here = True
                    events.append(Joined(name))
                else:
                    events.append(Stage(name, id_, content) if kind == "stage" else Done(name, id_, content))
        except StopIteration:
            return [*events, self._replace(name, "has ended")]
        except self._ray.exceptions.RayError as error:
            return [*events, self._replace(name, how_it_died(error))]
        return events

    def _replace(self, name: Worker, why: str) -> Gone:
        actor = self._actors.pop(name)
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(actor.handle)
        self._start(actor.plan)
        return Gone(name, why)

    def _check_alone(self) -> None:
        if any(actor.here for actor in self._actors.values()):
            self._alone_since = self.now()
        elif self.now() - self._alone_since > _ALONE:
            raise StsimdiffError(
                f"The cluster has had no room for a worker for {_ALONE / 60:.0f} minutes.",
                "See `ray status`. What is done is kept: start the same command again.",
            )

    def end(self, worker: Worker) -> None:
        """Kill a worker."""
        if worker in self._actors:
            self._ray.kill(self._actors[worker].handle)

    def now(self) -> float:
        """The time, in seconds."""
        return time.monotonic()

    def close(self) -> None:
        """End all workers: by themselves, so that they remove what is half-written, or else by force."""
        ended = [actor.handle.end.remote() for actor in self._actors.values() if actor.here]
        if ended:
            self._ray.wait(ended, num_returns=len(ended), timeout=_PATIENCE)
        for actor in self._actors.values():
            with suppress(self._ray.exceptions.RayError):
                self._ray.kill(actor.handle)
        self._actors.clear()


def how_it_died(error: Exception) -> str:
    """What Ray says about the end of an actor, to end a sentence with."""
    text = str(error)
    if "unavailable" in text:
        return "cannot be reached any more"
    if "node has died" in text or "node died" in text:
        return "ended because its node died"
    return "was ended" if "ray.kill" in text else "ended unexpectedly (out of memory?)"
