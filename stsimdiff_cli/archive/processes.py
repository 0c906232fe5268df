"""Worker processes on this machine, each with a model of its own: how many there are, and the pool of them."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from ..errors import ModelError, RequestError
from ..models import EMBEDDED
from ..models.families import open_family
from ..models.loading.runtime import usable_devices
from . import worker
from .child import context, how_it_ended
from .job import Job, Task
from .pool import Done, Event, Gone, Joined, Stage
from .schedule import Worker

_PATIENCE = 2.0  # seconds for a worker to end by itself
_LONGEST = 60.0  # seconds between two looks at the clock
_BASE = 1 << 30  # bytes of a worker besides its model


def parse_devices(text: str | None, device: str) -> tuple[str, ...]:
    """The devices of the workers. RequestError for one that is not here.

    Without a text: the device that was chosen for the model, or every GPU if none was.
    """
    here = usable_devices()
    gpus = [name for name in here if name.startswith("cuda:")]
    if text is None or text.strip() == "all":
        return tuple(gpus) if gpus and device == "auto" else (device,)
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in here:
            raise RequestError(f"The device {name!r} is not available here.", f"Available here: {', '.join(here)}.")
    return tuple(names)


def plans(job: Job, devices: Sequence[str], workers: int | None, decoders: int | None, items: int) -> list[worker.Plan]:
    """How the cores of this machine are shared out: the plan of every worker.

    With GPUs, one worker a GPU, and the cores decode for them. Without, one worker a core that decodes for itself: two
    of these on two cores take half of what decoding and encoding take together, which is never more than the longer
    of both.
    """
    devices = tuple(devices) or (job.runtime.device,)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    on_gpu = devices[0].startswith(("cuda", "mps"))
    if workers is None:
        workers = len(devices) if on_gpu else max(1, min(cores, _room(job)))
        workers = max(1, min(workers, items))
    if decoders is None:
        decoders = max(1, min(worker.MOST_DECODERS, cores // workers - 1)) if on_gpu else 0
    threads = int(os.environ.get("OMP_NUM_THREADS") or 0) or max(1, cores // workers)
    return [worker.Plan(job, devices[number % len(devices)], threads, decoders) for number in range(workers)]


def _room(job: Job) -> int:
    """How many workers fit into the memory that is free, by the size of the model's weights in float32."""
    free = _free_memory()
    if free is None:
        return 1 << 16
    try:
        files = open_family(job.model or EMBEDDED, job.revision).checkpoint.weight_files()
    except (ModelError, RequestError):  # the model of each tokens file is another matter
        return 1 << 16
    return int(free // (_BASE + 2 * sum(path.stat().st_size for path in files)))


def _free_memory() -> int | None:
    """Bytes of memory that are free, as far as the system tells."""
    amounts = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                amounts.append(int(line.split()[1]) * 1024)
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text().strip()
        if limit.isdecimal():
            amounts.append(int(limit) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass
    return min(amounts, default=None)


@dataclass
class _Process:
    process: Any
    pipe: Connection
    plan: worker.Plan
    alive: bool = True


class ProcessPool:
    """Worker processes; one that ends is replaced. See pool.Pool."""

    def __init__(self, worker_plans: Sequence[worker.Plan]) -> None:
        self.size, self.depth = len(worker_plans), worker_plans[0].depth
        self._context = context()
        self._workers: dict[Worker, _Process] = {}
        self._count = 0
        for plan in worker_plans:
            self._start(plan)

    def _start(self, plan: worker.Plan) -> Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=worker.main, args=(theirs, plan), name="worker")
        process.start()
        theirs.close()
        self._count += 1
        self._workers[self._count] = _Process(process, ours, plan)
        return self._count

    def workers(self) -> Sequence[Worker]:
        """The workers that are there."""
        return list(self._workers)

    def submit(self, worker: Worker, task: Task) -> None:
        """Send a task. If the worker has just ended, it will be Gone."""
        try:
            self._workers[worker].pipe.send(task)
        except (BrokenPipeError, ConnectionResetError):
            self._workers[worker].alive = False

    def wait(self, until: float | None) -> list[Event]:
        """Messages of workers, and the ends of some."""
        timeout = _LONGEST if until is None else min(max(until - self.now(), 0.0), _LONGEST)
        if all(process.alive for process in self._workers.values()):
            wait([each for p in self._workers.values() for each in (p.pipe, p.process.sentinel)], timeout)
        events: list[Event] = []
        for name, process in list(self._workers.items()):
            ended = not process.alive or process.process.exitcode is not None  # before its last messages are read
            events += self._messages(name, process)
            if ended or not process.alive:
                events += self._replace(name, process)
        return events

    def _messages(self, name: Worker, process: _Process) -> list[Event]:
        events: list[Event] = []
        try:
            while process.pipe.poll():
                kind, id_, content = process.pipe.recv()
                events.append(Stage(name, id_, content) if kind == "stage" else Done(name, id_, content))
        except Exception:  # the end of the pipe, or a message that broke off when its sender was killed
            process.alive = False
        return events

    def _replace(self, name: Worker, process: _Process) -> list[Event]:
        process.process.join(_PATIENCE)
        if process.process.exitcode is None:
            process.process.kill()
            process.process.join()
        process.pipe.close()
        del self._workers[name]
        why = how_it_ended(process.process.exitcode)
        return [Gone(name, why), Joined(self._start(process.plan))]

    def end(self, worker: Worker) -> None:
        """Kill a worker."""
        if worker in self._workers:
            self._workers[worker].process.kill()

    def now(self) -> float:
        """The time, in seconds."""
        return time.monotonic()

    def close(self) -> None:
        """End all workers: those without work by themselves, others by force. None of them is left afterwards."""
        for process in self._workers.values():
            process.process.terminate()
        deadline = time.monotonic() + _PATIENCE
        for process in self._workers.values():
            process.process.join(max(deadline - time.monotonic(), 0.0))
            if process.process.exitcode is None:
                process.process.kill()
                process.process.join()
            process.pipe.close()
        self._workers.clear()
