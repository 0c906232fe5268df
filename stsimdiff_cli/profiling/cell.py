"""Measures one cell: a method at a number of frames. As a program it takes a job as JSON on stdin and prints numbers.

The parts of a run (encode, compress, ask) are the pipeline's own functions. Each part loads its model once, does one
whole run to warm up, and is then repeated; only the repeats count.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch

from .. import pipeline
from ..errors import StsimdiffError
from ..machine import describe
from ..methods.base import Method
from ..methods.spec import parse_method
from ..models.inference.conversation import Answer
from ..models.inference.model_cache import ModelCache
from ..models.loading.runtime import pick_device
from ..records import CompressedVideo, VideoTokens
from ..storage.atomic import temporary_folder
from ..storage.reading import StoredVideo
from ..storage.writing import save_compressed
from ..timing import Stopwatch, selection_seconds
from ..timing.spans import recording, span
from ..video import Sampling
from .job import COLD, STAGES, WARM, Job
from .memory import PeakMemory
from .trace import timeline

T = TypeVar("T")
#: Stages that consist of several steps of the pipeline; the others are one step of the same name.
_STEPS = {"decode": ("scan", "decode")}


class Cell:
    """The measurement of one job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.device = pick_device(job.runtime.device)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # the one that stopwatches synchronise
        self.method = method_of(job)
        self.memory = PeakMemory(self.device)
        self.steps: list[dict[str, float]] = [{} for _ in range(job.repeats)]
        self.load_seconds: dict[str, float | None] = {}
        self.peak_bytes: dict[str, int] = {}
        self.models = ModelCache()
        self.frames = 0  # fewer than asked for if the video has no more

    def measure(self) -> dict[str, Any]:
        """Run all parts one after the other and return the numbers, ready for JSON."""
        with temporary_folder() as folder:
            file = folder / "video.safetensors"
            facts = self._write_file(file)
            answer = self._measure_part("ask", lambda timer: self._ask(file, timer))
            traced = self._trace(folder) if self.job.trace else {}
        return (
            facts
            | traced
            | {
                "parameters": self.method.parameters(),
                "prompt_tokens": answer.prompt_tokens,
                "new_tokens": answer.tokens,
                "load_seconds": self.load_seconds,
                "repeat_seconds": [stage_seconds(steps) for steps in self.steps],
                "peak_bytes": self.peak_bytes | {"all": max(self.peak_bytes.values())},
                "peak_source": self.memory.source,
                "machine": describe(self.device),
            }
        )

    def _write_file(self, file: Path) -> dict[str, Any]:
        """Encode and compress into `file`, so that no tensor of this is left when the model is asked."""
        tokens = self._measure_part("encode", self._encode)
        video = self._measure_part("compress", lambda timer: self._compress(tokens, timer))
        return {
            "frames_decoded": self.frames,
            "source": asdict(tokens.grid.source),
            "grid": tokens.grid.shape,
            "tokens": tokens.grid.tokens,
            "dtype": str(tokens.features.dtype).removeprefix("torch."),
            "kept": len(video.index),
            "counts": video.counts,
            "file_bytes": save_compressed(file, video),
        }

    def _measure_part(self, name: str, work: Callable[[Stopwatch], T]) -> T:
        """Run once to load and warm up, then repeat; the peak memory is that of the repeats."""
        self.models = ModelCache()
        timer = Stopwatch(str(self.device))
        result = work(timer)
        self.load_seconds[name] = timer.seconds.get("load")
        self.memory.reset()
        for steps in self.steps:
            del result  # never two in memory
            timer = Stopwatch(str(self.device))
            result = work(timer)
            steps |= timer.seconds
        self.peak_bytes[name] = self.memory.read()
        self.models = ModelCache()
        self.memory.reset()
        return result

    def _trace(self, folder: Path) -> dict[str, Any]:
        """Run all parts once more, through files, and record what happens when."""
        file, timer = folder / "traced.safetensors", Stopwatch()
        with recording() as spans:
            tokens = self._encode(timer, to=folder / "traced.tokens.safetensors")
            video = self._compress(tokens, timer)
            with span("write"):
                save_compressed(file, video)
            self._ask(file, timer)
        return timeline(spans, self.job)

    def _encode(self, timer: Stopwatch, to: Path | None = None) -> VideoTokens:
        def count(_done: int, total: int) -> None:
            self.frames = total

        return pipeline.encode_video(
            Path(self.job.video),
            self.job.model,
            Sampling(frames=self.job.frames, workers=self.job.workers, size=self.job.size),
            self.job.runtime,
            evidence=sorted(self.method.evidence),
            to=to,
            context=pipeline.Context(self.models, timer, count),
        )

    def _compress(self, tokens: VideoTokens, timer: Stopwatch) -> CompressedVideo:
        timer.step("select")  # moving the features to the device counts
        return pipeline.compress_tokens(
            tokens, self.job.ratio, self.method, self.job.runtime, context=pipeline.Context(self.models, timer)
        )

    def _ask(self, file: Path, timer: Stopwatch) -> Answer:
        timer.step("read")
        with span("read"):
            video = StoredVideo(file).video()
        conversation = pipeline.converse(video, self.job.runtime, context=pipeline.Context(self.models, timer))
        wanted, language = self.job.new_tokens, conversation.language
        language.model.generation_config.min_new_tokens = wanted  # an end token must not cut the answer short
        language.rules.cache_clear()
        with timer.during("answer"), span("answer"):
            for _ in range(self.job.questions):
                answer = conversation.ask(pipeline.GENERAL_PROMPT, max_new_tokens=wanted)
        if wanted > 1:
            timer.seconds["token"] = (answer.seconds["answer"] - answer.seconds["first_token"]) / (wanted - 1)
        return answer


def method_of(job: Job) -> Method:
    """The job's method; `importance` applies only if the method has that parameter."""
    method = parse_method(job.method)
    if job.importance is not None and "importance" in method.parameters():
        return parse_method(job.method, importance=job.importance)
    return method


def stage_seconds(steps: dict[str, float]) -> dict[str, float | None]:
    """Seconds of each stage and of both totals in one run; None for a stage that the run does not have."""
    seconds: dict[str, float | None] = {}
    for stage in STAGES:
        present = [steps[step] for step in _STEPS.get(stage, (stage,)) if step in steps]
        seconds[stage] = sum(present) if present else None
    seconds["select"] = selection_seconds(steps)
    for name, parts in (("cold", COLD), ("warm", WARM)):
        seconds[name] = sum(seconds[part] or 0.0 for part in parts)
    return seconds


def main() -> None:
    """Measure the job on stdin. A user's mistake is reported on stdout too; any other exception ends the process."""
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)  # what libraries print must not mix with the result
        try:
            result: dict[str, Any] = Cell(Job.from_json(json.load(sys.stdin))).measure()
        except StsimdiffError as error:
            result = {"error": str(error), "hint": error.hint, "exit_code": error.exit_code}
        json.dump(result, out)


if __name__ == "__main__":
    main()
