"""What it gains that the stages of encoding work at the same time: three forms in turn, in one process.

    python benchmarks/overlap.py [--frames 64] [--rounds 7] [--workers 1,2] [--model MODEL] [--output FILE]

*in turn*: every stage waits for the one before it; *decoder ahead*: one thread decodes, and all other stages take turns
(as in versions before); *all*: the program as it is. A round encodes a generated clip of 640 x 360 pixels into a tokens
file once with each form, in turning order, the model loaded; the files of all must be equal to the byte. Ratios are
taken within a round. On a shared machine the clock tells little: `wanting a core` is the time for which threads of the
process were ready and got no core, as the kernel counts it (Linux), as a share of the time that they ran or wanted to.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from pace import OVERLAP

from stsimdiff_cli import pipeline
from stsimdiff_cli.machine import describe
from stsimdiff_cli.models import EMBEDDED
from stsimdiff_cli.models.inference.model_cache import ModelCache
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.profiling.clip import write_default_clip
from stsimdiff_cli.stages import encoding
from stsimdiff_cli.stages.overlap import After, Ahead
from stsimdiff_cli.timing.spans import busy_seconds, recording
from stsimdiff_cli.video import Sampling

STAGES = ("decode", "preprocess", "encode", "write")


class InTurn(Iterator[Any]):
    """In place of `Ahead`: makes an item when it is asked for."""

    def __init__(self, source: Any, through: Callable[[Iterable[Any]], Iterable[Any]], name: str) -> None:  # noqa: ARG002
        self._items = iter(through(source))

    def __next__(self) -> Any:
        return next(self._items)

    def cancel(self) -> None:
        """Nothing is under way."""

    close = cancel


class AtOnce:
    """In place of `After`: works while the caller waits."""

    def __init__(self, work: Callable[[Any], None], failed: Callable[[], None], name: str) -> None:  # noqa: ARG002
        self.put = work

    def finish(self) -> None:
        """Nothing is under way."""

    close = finish


def decoder_ahead(source: Any, through: Callable[[Iterable[Any]], Iterable[Any]], name: str) -> Iterator[Any]:
    """In place of `Ahead`: only the decoder has a thread."""
    return Ahead(source, through, name) if name == "decode" else InTurn(source, through, name)


FORMS: dict[str, tuple[Any, Any]] = {
    "in turn": (InTurn, AtOnce),
    "decoder ahead": (decoder_ahead, AtOnce),
    "all": (Ahead, After),
}


def wanted() -> float:
    """Seconds for which the live threads of this process were ready to run and had no core; 0 where not known."""
    files = [Path(f"/proc/self/task/{thread.native_id}/schedstat") for thread in threading.enumerate()]
    return sum(int(file.read_text().split()[1]) / 1e9 for file in files if file.exists())


def measure(clip: Path, out: Path, form: str, model: str, workers: int, frames: int, models: ModelCache) -> dict:
    """Encode once."""
    encoding.Ahead, encoding.After = FORMS[form]  # type: ignore[misc]
    context, waited = pipeline.Context(models), [wanted()]
    write = encoding._Writer.write

    def watched(*arguments: Any) -> None:
        write(*arguments)
        waited.append(wanted())  # while the threads of all stages live

    encoding._Writer.write = watched  # type: ignore[method-assign]
    try:
        with recording() as spans:
            start, cpu = time.perf_counter(), time.process_time()
            sampling, runtime = Sampling(frames=frames, workers=workers), Runtime("cpu")
            pipeline.encode_video(clip, model, sampling, runtime, to=out, context=context)
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    finally:
        encoding._Writer.write = write  # type: ignore[method-assign]
    work = [(s.begin, s.end) for s in spans if s.name == "encode"]
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "cores_used": cpu / seconds,
        "wanting_a_core": (waited[-1] - waited[0]) / (waited[-1] - waited[0] + cpu),
        "encoder_busy": busy_seconds(work) / (max(b for _, b in work) - min(a for a, _ in work)),
        "digest": hashlib.sha256(out.read_bytes()).hexdigest(),
        **{name: sum(s.end - s.begin for s in spans if s.name == name) for name in STAGES},
    }


def spread(values: list[float]) -> dict[str, float]:
    """Median, minimum and maximum."""
    return {"median": round(statistics.median(values), 3), "from": round(min(values), 3), "to": round(max(values), 3)}


def compare(clip: Path, folder: Path, model: str, workers: int, frames: int, rounds: int) -> list[dict[str, Any]]:
    """A row for each form. SystemExit if they write different files."""
    models, runs, names = ModelCache(), [], list(FORMS)
    for number in range(rounds + 1):
        order = names[number % len(names) :] + names[: number % len(names)]
        settings = (model, workers, frames, models)
        run = {form: measure(clip, folder / "tokens.safetensors", form, *settings) for form in order}
        if len({each["digest"] for each in run.values()}) > 1:
            raise SystemExit("the tokens depend on the form")
        if number:  # the first loads the model
            runs.append(run)
    rows = []
    for form in FORMS:
        figures = ("seconds", "cpu_seconds", "cores_used", "wanting_a_core", "encoder_busy", *STAGES)
        row = {
            "workers": workers,
            "form": form,
            **{name: spread([run[form][name] for run in runs]) for name in figures},
        }
        row["speedup"] = spread([run[names[0]]["seconds"] / run[form]["seconds"] for run in runs])
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def main() -> None:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--model", default=EMBEDDED)
    parser.add_argument("--output", type=Path, help="JSON report to write")
    arguments = parser.parse_args()
    report: dict[str, Any] = {"format": OVERLAP, "machine": describe(), "load_before": os.getloadavg(), "rows": []}
    report |= {"frames": arguments.frames, "rounds": arguments.rounds, "model": arguments.model}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = folder / "clip.mp4"
        write_default_clip(clip, arguments.frames)
        for workers in map(int, arguments.workers.split(",")):
            settings = (arguments.model, workers, arguments.frames, arguments.rounds)
            report["rows"] += compare(clip, folder, *settings)
    report["load_after"] = os.getloadavg()
    if arguments.output:
        arguments.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
