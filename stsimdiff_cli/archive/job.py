"""The work for one item: from a video or a tokens file to an output, or to a row that says why there is none.

It is the same in this process, in a worker on this machine, and on another: it returns a row and never raises.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import RequestError, StsimdiffError
from ..methods.base import Method
from ..models import EMBEDDED
from ..models.inference.model_cache import ModelCache
from ..models.loading.runtime import Runtime
from ..pipeline import CHUNK, Context, compress_to, encode_frames
from ..ratio import ALL, Ratio
from ..records import ArchiveMark, FrameStream, VideoTokens
from ..storage.byte_budget import ByteBudget
from ..storage.image_files import is_images
from ..storage.reading import is_stored, open_stored
from ..storage.sinks import Destination
from ..storage.stores import AnyPath, is_url, local_copy, to_write
from ..storage.writing import save_compressed
from ..timing import Stopwatch
from ..video import Sampling, open_stream, scan
from ..video.opening import open_video
from .failures import ends_the_run, failure_of
from .identity import Item
from .log import FAILED, SKIPPED, SUCCESS, TIMEOUT, Row, host, now

#: The log's names of a stopwatch's steps; all others are steps of the method.
STAGES = {name: name for name in ("probe", "load", "decode", "encode", "read", "write")} | {"scan": "probe"}
#: Bytes of video a second, if a file does not say how long it is.
_BYTES_A_SECOND = 250_000


@dataclass(frozen=True)
class Job:
    """What is done with every item: encoded, or compressed if there is a method."""

    out: AnyPath
    model: str | None = None
    revision: str | None = None
    sampling: Sampling = Sampling()
    chosen: bool = False  # whether a user chose the frames, which a tokens file does not allow
    runtime: Runtime = Runtime()
    evidence: tuple[str, ...] = ()
    method: Method | None = None
    ratio: Ratio | None = None  # or
    size: ByteBudget | None = None
    prompt: str | None = None
    store: str | None = None  # form of the features, see storage/packing.py
    settings: str = ""  # the hash of all this, see settings.py

    @property
    def command(self) -> str:
        """The command in the program's words."""
        return "encode" if self.method is None else "compress"

    def sampling_of(self, item: Item) -> Sampling:
        """Which frames of an item are read: an item that is a part of a video has its own start and end.

        One decoder reads each video unless more are asked for: several videos are read at the same time.
        """
        sampling = replace(self.sampling, workers=self.sampling.workers or 1)
        if not is_images(Path(item.path)):
            sampling = replace(sampling, image_fps=None)
        if item.start is None and item.end is None:
            return sampling
        return replace(sampling, start=item.start, end=item.end)


@dataclass(frozen=True)
class Fatal:
    """Every other item would fail in the same way, so the run ends."""

    message: str
    hint: str | None


@dataclass(frozen=True)
class Task:
    """One attempt at one item. `output` is relative to the folder of outputs; a probe has none."""

    item: Item
    output: str
    attempt: int = 1
    probe: bool = False
    limit: float | None = None  # seconds that it may take


#: Opens the frames of an item.
Opener = Callable[[Item, Sampling], FrameStream]


def _open_here(item: Item, sampling: Sampling) -> FrameStream:
    return open_stream(item.path, sampling, CHUNK)


class Performer:
    """Does the tasks of a job one after another. Each model is loaded once.

    `tell` is called with each stage of a task when it begins; `open_frames` delivers the frames of a video. What is in
    a store is copied to this machine for the time of its task.
    """

    def __init__(
        self, job: Job, tell: Callable[[str], None] = lambda _: None, open_frames: Opener = _open_here
    ) -> None:
        self.job = job
        self.models = ModelCache()
        self._tell, self._open = tell, open_frames

    def __call__(self, task: Task) -> Row | Fatal:
        """The row of a task, whatever happens; Fatal if no other task would do better."""
        timer = _Stages(self.job.runtime.device, self._tell)
        began = now()
        try:
            found = _probe(task.item, self.job.sampling_of(task.item), timer) if task.probe else self._work(task, timer)
        except Exception as error:
            if ends_the_run(error, timer.stage, _is_tokens(task.item)):
                return Fatal(str(error), getattr(error, "hint", None))
            found = self._failure(task, error, timer.stage)
        timer.stop()
        return row_of(
            task,
            self.job,
            seconds={name: round(value, 4) for name, value in timer.seconds.items()},
            started=began,
            finished=now(),
            **found,
        )

    def _work(self, task: Task, timer: _Stages) -> dict[str, Any]:
        timer.step("read")
        if is_url(task.item.path) and self._open is not _open_here and not _is_tokens(task.item):
            return self._make(task, None, timer)  # whoever decodes it makes the copy
        with local_copy(task.item.path) as path:
            try:
                return self._make(task, path, timer)
            except StsimdiffError as error:
                error.args = (str(error).replace(str(path), task.item.name), *error.args[1:])
                raise

    def _make(self, task: Task, path: Path | None, timer: _Stages) -> dict[str, Any]:
        """Make the output. `path`: where the file is on this machine, None for a video that is decoded elsewhere."""
        job, item = self.job, task.item if path is None else replace(task.item, path=str(path))
        mark = ArchiveMark(item.id, job.settings)
        context = Context(self.models, timer)
        if item.size < 0:
            raise RequestError(f"There is no file {item.path!r}.", "Check the list.")
        tokens: VideoTokens
        if path is not None and job.method is not None and is_stored(path):
            stored = open_stored(path)
            if stored.compressed and not item.sure:
                return {"status": SKIPPED, "error_message": "is already compressed"}
            if job.chosen or item.start is not None or item.end is not None:
                raise RequestError(f"{path} is already encoded, so its frames are fixed.", "Give the video.")
            tokens = stored.tokens(in_memory=False)
        else:
            with timer.during("scan"):
                stream = self._open(item, job.sampling_of(item))
            if job.method is None:
                with to_write(job.out / task.output) as target:
                    tokens = self._encode(stream, mark, context, to=target)
                    size = target.stat().st_size
            else:
                tokens = self._encode(stream, mark, context)
        source = tokens.grid.source
        known = {"status": SUCCESS, "sha256": source.sha256, "tokens": tokens.grid.tokens}
        if job.method is not None:
            timer.step("select")
            amount = job.size or job.ratio or ALL
            options = {"runtime": job.runtime, "prompt": job.prompt, "model": job.model, "context": context}
            fitted = compress_to(tokens, amount, job.method, job.store, mark, **options)
            with timer.during("write"), to_write(job.out / task.output) as target:
                size = save_compressed(target, fitted.video, mark, fitted.store)
            known["kept"] = len(fitted.video.index)
        missing = len(source.missing_seconds) or None
        return known | {"duration": source.seconds, "missing": missing, "bytes": size}

    def _encode(self, stream: FrameStream, mark: ArchiveMark, context: Context, to: Path | None = None) -> VideoTokens:
        job = self.job
        return encode_frames(
            stream,
            job.model or EMBEDDED,
            job.runtime,
            revision=job.revision,
            evidence=job.evidence,
            to=None if to is None else Destination(to, job.store, mark),
            context=context,
        )

    def _failure(self, task: Task, error: Exception, stage: str) -> dict[str, Any]:
        failure = failure_of(error)
        if failure.transient:
            _free_memory()
        late = failure.type == "LateError"
        if task.probe and not task.item.sure and not failure.transient:
            return {"status": SKIPPED, "error_message": "is not a video"}
        return {
            "status": TIMEOUT if late else FAILED,
            "stage": stage,
            "error_type": failure.type,
            "error_message": failure.message.replace(task.item.path, task.item.name),
            "transient": failure.transient,
        }


def row_of(task: Task, job: Job, **found: Any) -> Row:
    """The row of a task: what is known of it beforehand, and what was `found`."""
    item = task.item
    output = task.output if found["status"] == SUCCESS and not task.probe else None
    return Row(
        item.id,
        item.name,
        settings=job.settings,
        attempt=task.attempt,
        output=output,
        begin=item.start,
        end=item.end,
        size=item.size,
        mtime_ns=item.mtime_ns,
        host=host(),
        pid=os.getpid(),
        device=None if task.probe else job.runtime.device,
        **{"sha256": item.sha256} | found,
    )


def _probe(item: Item, sampling: Sampling, timer: _Stages) -> dict[str, Any]:
    """How long the item's video lasts, as its header says: good enough for an order."""
    timer.step("probe")
    if item.size < 0:
        raise RequestError(f"There is no file {item.path!r}.", "Check the list.")
    if is_url(item.path):  # it is not copied for that: its size tells enough
        return {"status": SUCCESS, "duration": item.size / _BYTES_A_SECOND}
    path = Path(item.path)
    if is_stored(path):
        return {"status": SUCCESS, "duration": open_stored(path).grid.source.seconds}
    if is_images(path):
        return _lasting(scan(path, sampling.image_fps).duration, item)
    container, stream = open_video(path)
    with container:
        if container.format.name.endswith("_pipe") and not item.sure:
            return {"status": SKIPPED, "error_message": "is a picture"}
        seconds = (container.duration or 0) / 1e6
        if not seconds and stream.duration and stream.time_base:
            seconds = float(stream.duration * stream.time_base)
    return _lasting(max(seconds, 0.0) or item.size / _BYTES_A_SECOND, item)


def _lasting(seconds: float, item: Item) -> dict[str, Any]:
    """The findings about a video of so many seconds, of which an item may be a part."""
    end = seconds if item.end is None else min(item.end, seconds)
    return {"status": SUCCESS, "duration": max(end - (item.start or 0.0), 0.0)}


def _is_tokens(item: Item) -> bool:
    return item.path.endswith(".safetensors")


def _free_memory() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


class _Stages(Stopwatch):
    """A stopwatch that says what it times."""

    def __init__(self, device: str, tell: Callable[[str], None]) -> None:
        super().__init__(device)
        self.stage = "probe"
        self._tell = tell

    def step(self, name: str, wait: bool = True) -> None:
        """End the current step, and begin another."""
        super().step(name, wait)
        self.stage = STAGES.get(name, "select")
        self._tell(self.stage)
