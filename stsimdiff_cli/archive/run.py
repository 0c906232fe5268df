"""Many videos from beginning to end: find them, compare settings, plan, ask how long they last, and do the work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import RequestError
from ..models import EMBEDDED
from ..models.families import open_family
from ..pipeline import sampling_for
from ..storage.atomic import check_folder, remove_stale
from ..storage.stores import AnyPath, StorePath, any_path
from .failures import LateError, failure_of
from .identity import Tell, contents_of, identified
from .job import Job, Performer, Task, row_of
from .log import FAILED, SUCCESS, TIMEOUT, Log, Row, fold, now
from .loop import Loop
from .outputs import done
from .plan import Plan, make_plan, recovered
from .pool import LocalPool, Pool
from .processes import ProcessPool, plans
from .schedule import LIMIT, Entry, Limit, Schedule
from .settings import keep, settings_of
from .shards import ALL, Shard
from .sources import STORED, Found, find

#: Where the workers are: on this machine, or on the nodes of a Ray cluster.
LOCAL, RAY = EXECUTORS = ("local", "ray")
#: The work before the work, in words.
PROBING = "videos looked into"
#: The part of a time limit after which a worker gives up on a decoder, before it is given up itself.
_INNER = 0.9


@dataclass(frozen=True)
class Options:
    """How the work is done, which does not change the outputs."""

    executor: str = LOCAL  # or RAY
    workers: int | None = None  # processes; 0: this one alone; None: as many as suit the machine
    devices: tuple[str, ...] = ()  # () is that of the job
    decoders: int | None = None  # processes that decode ahead of each worker
    attempts: int = 2
    limit: Limit = LIMIT
    shard: Shard = ALL
    by_content: bool = False
    retry_failed: bool = False
    force: bool = False


@dataclass
class Progress:
    """How far a run is. Seconds are those of video."""

    plan: Plan
    began: float = field(default_factory=time.monotonic)
    probed: int = 0
    success: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0  # of what is finished, well or not
    total_seconds: float = 0.0  # of what was to be done

    @property
    def finished(self) -> int:
        """Items of this start that are finished."""
        return self.success + self.failed + self.skipped

    @property
    def left(self) -> int:
        """Items of this shard that are neither done nor given up."""
        return len(self.plan.todo) - self.finished

    @property
    def elapsed(self) -> float:
        """Seconds since the work began."""
        return time.monotonic() - self.began

    @property
    def eta(self) -> float | None:
        """Seconds that are left, by the seconds of video that are; None if nothing tells yet."""
        if self.seconds <= 0:
            return None
        return self.elapsed * max(self.total_seconds - self.seconds, 0.0) / self.seconds


class Watcher:
    """Is told how a run goes; this one does nothing with it."""

    def preparing(self, what: str, done: int, total: int) -> None:
        """So much is done of what comes before anything is planned."""

    def planned(self, progress: Progress) -> None:
        """It is known what is to be done."""

    def probed(self, progress: Progress) -> None:
        """One more video was looked into."""

    def advanced(self, progress: Progress, row: Row, again: bool) -> None:
        """A task has ended; `again`: it will be tried again."""


def process(job: Job, sources: list[str], options: Options, watcher: Watcher | None = None) -> Progress:
    """Do the job for everything that the sources name, as far as it is not done; items that fail end nothing.

    Raises RequestError for a wrong request, and for a folder of outputs that was made with other settings;
    StsimdiffError if the run as a whole cannot go on.
    """
    out = job.out
    _check_out(out, sources)
    found = find(sources, out, stored=job.method is not None, images=job.sampling.image_fps is not None)
    if not found:
        raise RequestError(
            f"There is no video in {', '.join(sources)}.",
            "Name a folder with videos in it; folders of nothing but images below it count with --image-fps.",
        )
    videos = any(not file.path.endswith(STORED) for file in found)
    if videos:
        family = open_family(job.model or EMBEDDED, job.revision)
        job = replace(job, sampling=sampling_for(family, job.sampling))
    settings = settings_of(job, options.by_content, videos)
    job = replace(job, settings=settings.id)
    out.mkdir(parents=True, exist_ok=True)
    keep(out, settings, sources, options.force)
    folded = fold(out, settings.id)
    watcher = watcher or Watcher()
    items = identified(found, _contents(found, folded.rows, watcher.preparing) if options.by_content else None)
    plan = make_plan(items, out, settings.id, folded, options.shard, options.retry_failed, watcher.preparing)
    log = Log(out)
    try:
        log.start(items=len(items), settings=settings.id, shard=str(options.shard), sources=sources)
        for row in plan.rows:
            log.add(row)
        return _Run(job, options, plan, log, watcher).run()
    finally:
        log.close()


def _check_out(out: AnyPath, sources: list[str]) -> None:
    if isinstance(out, StorePath):
        if str(out).rstrip("/") in (source.rstrip("/") for source in sources):
            raise RequestError(f"{out} is read by this command, so nothing is written to it.", "Choose another place.")
        return
    if out.exists() and not out.is_dir():
        raise RequestError(f"{out} is not a folder, and many files are to be written.", "Name a folder with -o.")
    for source in map(any_path, sources):
        if isinstance(source, Path) and source.is_dir():
            check_folder(out, source)


def _contents(found: list[Found], rows: dict[str, Row], tell: Tell) -> dict[str, str]:
    """The SHA-256 of every file that can be read; of files that have not changed since, the log knows it."""
    logged = {(row.path, row.size, row.mtime_ns): row.sha256 for row in rows.values() if row.sha256}
    known = {file.path: sha for file in found if (sha := logged.get((file.name, file.size, file.mtime_ns)))}
    return known | contents_of((file.path for file in found if file.path not in known and file.size >= 0), tell)


class _Run:
    """One start: what is to be done, with which workers, and how far it is."""

    def __init__(self, job: Job, options: Options, plan: Plan, log: Log, watcher: Watcher) -> None:
        self.job, self.options, self.plan, self.log, self.watcher = job, options, plan, log, watcher
        self.items = {item.id: item for item in plan.todo}
        self.progress = Progress(plan)
        self.durations: dict[str, float] = {}

    def run(self) -> Progress:
        self.watcher.planned(self.progress)
        if self.plan.todo:
            try:
                with _pool(self.job, self.options, len(self.plan.todo)) as pool:
                    self._drive(pool, {item.id: 0.0 for item in self.plan.todo}, self._report_probe, probe=True)
                    self.progress.began = time.monotonic()
                    self.progress.total_seconds = sum(self.durations.values())
                    self._drive(pool, self.durations, self._report)
            finally:
                self._remove_stale()
        return self.progress

    def _drive(
        self, pool: Pool, durations: dict[str, float], report: Callable[[Row, bool], None], probe: bool = False
    ) -> None:
        # To look into a video may only end the process that does it.
        begin = self.log.begin if not probe or self.options.workers == 0 else lambda _: None
        schedule = Schedule(durations.items(), self.options.attempts, self.options.limit, self.plan.unended)
        Loop(
            schedule,
            pool,
            lambda entry, limit: self._task(entry, probe, limit),
            lambda entry, stage, error: self._lost(self._task(entry, probe), stage, error),
            report,
            begin,
        ).run()

    def _task(self, entry: Entry[str], probe: bool, limit: float | None = None) -> Task:
        inner = None if limit is None else _INNER * limit
        return Task(self.items[entry.thing], self.plan.outputs[entry.thing], entry.attempt, probe, inner)

    def _lost(self, task: Task, stage: str, error: Exception) -> Row:
        """The row of an item whose worker did not live to write it: a success if the output is there."""
        there = None if task.probe else done(self.job.out, task.item, task.output, self.job.settings)
        if there is not None:
            return recovered(task.item, self.job.settings, *there)
        failure = failure_of(error)
        return row_of(
            task,
            self.job,
            status=TIMEOUT if isinstance(error, LateError) else FAILED,
            stage=stage,
            error_type=failure.type,
            error_message=failure.message,
            transient=failure.transient,
            finished=now(),
        )

    def _report_probe(self, row: Row, again: bool) -> None:
        """A video was looked into: it goes into the queue, unless it cannot be read."""
        if row.status == SUCCESS:
            self.durations[row.id] = row.duration or 0.0
            self.log.leave(row.id)
        else:
            self._report(row, again)
        if not again:
            self.progress.probed += 1
            self.watcher.probed(self.progress)

    def _report(self, row: Row, again: bool) -> None:
        self.log.add(row)
        if not again:
            if row.status == SUCCESS:
                self.progress.success += 1
            elif row.failed:
                self.progress.failed += 1
            else:
                self.progress.skipped += 1
            self.progress.seconds += self.durations.get(row.id, 0.0)
        self.watcher.advanced(self.progress, row, again)

    def _remove_stale(self) -> None:
        """Remove what workers that were killed left half-written."""
        if isinstance(self.job.out, StorePath):
            return  # nothing in a store is half-written
        for output in {Path(self.plan.outputs[id_]).parent for id_ in self.items}:
            remove_stale(self.job.out / output)


@contextmanager
def _pool(job: Job, options: Options, items: int) -> Iterator[Pool]:
    """The workers; none is left after the block."""
    if options.workers == 0:
        yield LocalPool(Performer(replace(job, runtime=replace(job.runtime, device=_first_device(job, options)))))
        return
    if options.executor == RAY:
        from .ray_pool import RayPool, connected, ray_plans

        with (
            connected() as ray,
            closing(RayPool(ray, ray_plans(job, ray, options.workers, options.decoders, items))) as actors,
        ):
            yield actors
        return
    with closing(ProcessPool(plans(job, options.devices, options.workers, options.decoders, items))) as processes:
        yield processes


def _first_device(job: Job, options: Options) -> str:
    return options.devices[0] if options.devices else job.runtime.device
