"""What encode, compress and ask do with many videos: read the options, show how far it is, and say how it ended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from . import common, output, stops

if TYPE_CHECKING:
    from ..archive.job import Job
    from ..archive.log import Row
    from ..archive.run import Options, Progress, Watcher
    from ..storage.stores import AnyPath

_NAMED = 20  # duplicates that are named on stderr


def is_many(sources: list[str], output: str) -> bool:
    """Whether there is more than one file (a folder, a list, a pattern, several of anything), or a store in play."""
    from ..archive.sources import is_many as several
    from ..storage.stores import is_url

    return is_url(output) or several(sources)


@dataclass(frozen=True)
class Many:
    """The options for many videos, as they were given."""

    executor: str | None = None
    workers: int | None = None
    devices: str | None = None
    decoders: int | None = None
    shard: str | None = None
    attempts: int | None = None
    timeout: float | None = None
    retry_failed: bool = False
    checksum: bool = False
    force: bool = False

    def check_one(self) -> None:
        """RequestError if one of them is given for a single video, where it would do nothing."""
        from ..errors import RequestError

        for item in fields(self):
            if item.name != "force" and getattr(self, item.name) not in (None, False):
                name = "--" + item.name.replace("_", "-")
                raise RequestError(f"{name} is for many videos, and one file is given.", f"Leave out {name}.")

    def options(self, device: str) -> Options:
        """The record that they describe. RequestError for what is not possible."""
        import math

        from ..archive.processes import parse_devices
        from ..archive.run import EXECUTORS, LOCAL, RAY, Options
        from ..archive.schedule import Limit
        from ..archive.shards import parse_shard
        from ..errors import RequestError

        executor = self.executor or LOCAL
        if executor not in EXECUTORS:
            raise RequestError(f"There is no executor {executor!r}.", f"Choose one of {', '.join(EXECUTORS)}.")
        if executor == RAY and (self.workers == 0 or self.devices is not None):
            option = "--workers 0" if self.workers == 0 else "--devices"
            raise RequestError(f"{option} is about this machine, and --executor ray about a cluster.", "Leave it out.")
        limit = Limit()
        if self.timeout is not None:
            if not (math.isfinite(self.timeout) and self.timeout > 0):
                raise RequestError(f"A timeout of {self.timeout:g} is not possible.", "Give a number above 0, like 10.")
            limit = Limit(times=self.timeout)
        return Options(
            executor,
            workers=self.workers,
            devices=() if executor == RAY else parse_devices(self.devices, device),
            decoders=self.decoders,
            attempts=2 if self.attempts is None else self.attempts,
            limit=limit,
            shard=parse_shard(self.shard),
            by_content=self.checksum,
            retry_failed=self.retry_failed,
            force=self.force,
        )


def run(job: Job, sources: list[str], many: Many, json: bool) -> None:
    """Do a job for many videos. StsimdiffError at the end if some failed."""
    from ..archive.run import process
    from ..errors import StsimdiffError

    options = many.options(job.runtime.device)
    began = time.monotonic()
    with _watching(job) as watcher:
        progress = process(job, sources, options, watcher)
    seconds = time.monotonic() - began
    _print(job.out, progress, seconds, json)
    failed = progress.failed + len(progress.plan.failed)
    if failed:
        earlier = f", {len(progress.plan.failed)} of them in an earlier run" if progress.plan.failed else ""
        raise StsimdiffError(
            f"{failed} of {progress.plan.total} items failed{earlier}.",
            f"`stsimdiff status {job.out}` says why; the same command with --retry-failed tries them again.",
        )


def _print(out: AnyPath, progress: Progress, seconds: float, json: bool) -> None:
    plan = progress.plan
    if json:
        output.result_json(
            {
                "output": str(out),
                "items": plan.total,
                "success": progress.success,
                "done_before": plan.done,
                "failed": progress.failed,
                "failed_before": len(plan.failed),
                "duplicates": len(plan.duplicates),
                "skipped": progress.skipped + plan.skipped,
                "in_other_shards": plan.elsewhere,
                "video_seconds": progress.seconds,
                "seconds": seconds,
            }
        )
        return
    counts = {
        "already done": plan.done,
        "failed": progress.failed,
        "failed before": len(plan.failed),
        "equal to others": len(plan.duplicates),
        "not videos": progress.skipped + plan.skipped,
    }
    text = "".join(f", {count} {name}" for name, count in counts.items() if count)
    output.result(f"{out}: {progress.success} of {plan.total} items done now{text}, {seconds:.1f} s")


@contextmanager
def _watching(job: Job) -> Iterator[Watcher]:
    """Shows how far a run is: a bar on a terminal, a line now and then elsewhere, and every failure.

    If the program is stopped, a note says how to go on.
    """
    from ..archive.run import PROBING, Watcher
    from ..models import EMBEDDED

    class Shown(Watcher):
        progress: Progress | None = None
        bar: output.Bar

        def preparing(self, what: str, done: int, total: int) -> None:
            self.bar.show(done, total, lambda: f"{done} of {total} {what}")

        def planned(self, progress: Progress) -> None:
            self.progress, plan = progress, progress.plan
            if any(not item.path.endswith(".safetensors") for item in plan.todo):
                common.introduce(job.model or EMBEDDED)
            for item, equal in plan.duplicates[:_NAMED]:
                output.note(f"{item.name} equals {equal.name}, and is not done twice.")
            if len(plan.duplicates) > _NAMED:
                output.note(f"So do {len(plan.duplicates) - _NAMED} others, which the log names.")

        def probed(self, progress: Progress) -> None:
            total = len(progress.plan.todo)
            self.bar.show(progress.probed, total, lambda: f"{progress.probed} of {total} {PROBING}")

        def advanced(self, progress: Progress, row: Row, again: bool) -> None:
            if row.failed:
                output.warn(f"{row.path}: {row.error_message}" + (" It will be tried again." if again else ""))
            if progress.total_seconds:
                self.bar.show(progress.seconds, progress.total_seconds, lambda: _line(progress))

    shown = Shown()
    try:
        with output.long_bar(job.command) as shown.bar:
            yield shown
    except stops.Stopped:
        if shown.progress is not None:
            plan = shown.progress.plan
            done = plan.done + shown.progress.success
            output.note(f"{done} of {plan.total} items are done and kept. The same command goes on with the rest.")
        raise


def _line(progress: Progress) -> str:
    """How far a run is, in a line: items, failures, rates, and the time left by the seconds of video that are."""
    elapsed = max(progress.elapsed, 1e-9)
    parts = [f"{progress.finished} of {len(progress.plan.todo)} items"]
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    parts.append(f"{progress.finished / elapsed:.3g} items/s, {progress.seconds / elapsed:.3g} s of video/s")
    if progress.eta is not None:
        parts.append(f"{output.clock(progress.eta)} left")
    return ", ".join(parts)
