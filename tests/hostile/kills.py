"""Stops the program at random moments: SIGINT, SIGTERM, SIGHUP and SIGKILL, while it writes what it writes.

A seed decides on the command, the signal and the moment. Whatever they are, an output is what it was before or is
whole, nothing else is left behind, no process goes on, and the next run works. After SIGKILL, which no program can
answer, the next run removes what is left.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.hostile.trials import Trial
from tests.hostile.warm import Cold, Process, Warm
from tests.support.clip_factory import SAMPLES

KIND = "kills and stops"
COUNT = 500  # of a full run
COLD = 0.12  # the part of the trials that starts a new process, imports and all
LONGEST = 300.0  # seconds that a run may take; machines may be busy
PROMPT = 60.0  # seconds that it may take after a signal
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
OLD = b"what was there before"
_TEMPORARY, _CACHE = ".stsimdiff-", "torchinductor"


@dataclass(frozen=True)
class Job:
    """A command and the files that it writes; `same` if it writes the same bytes every time.

    `kept` are files with which a stopped run goes on later.
    """

    args: tuple[str, ...]
    outputs: tuple[str, ...]
    same: bool = True
    kept: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.args[0]} to {self.outputs[0]}"


_BENCH = ("bench", "--clips", "2", "--frames", "12", "--methods", "uniform", "--ratios", "0.5")
_EVAL = ("eval", "longvideobench", "--data", "given/data", "--model", "tiny", "--frames", "4", "-o", "results")
JOBS = (
    Job(("encode", "given/clip.mp4", "-o", "out.tokens.safetensors", "--frames", "16"), ("out.tokens.safetensors",)),
    Job(("compress", "given/tokens.safetensors", "-o", "out.safetensors", "--ratio", "0.3"), ("out.safetensors",)),
    Job(("compress", "given/clip.mp4", "-o", "out.safetensors", "--ratio", "0.3"), ("out.safetensors",)),
    Job(("view", "given/kept.safetensors", "--video", "given/clip.mp4", "-o", "out.png"), ("out.png",)),
    Job(("view", "given/kept.safetensors", "--video", "given/clip.mp4", "-o", "out.mp4"), ("out.mp4",)),
    Job(("view", "given/kept.safetensors", "--video", "given/clip.mp4", "-o", "out.html"), ("out.html",)),
    Job(
        (*_BENCH, "-o", "out.json", "--plot", "out.png", "--markdown", "out.md"),
        ("out.json", "out.png", "out.md"),
        same=False,
        kept=("out.json.partial",),
    ),
    Job(_EVAL, ("results/report.json",), same=False, kept=("results", "results/request.json", "results/items.jsonl")),
)


class Setup:
    """The files that the commands read, what they write when nobody stops them, and how long they take."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.warm, self.cold = Warm(), Cold()
        self.reference: dict[tuple[Job, str], bytes] = {}
        self.allowed: dict[Job, set[str]] = {}
        self.seconds: dict[tuple[Job, bool], float] = {}
        self.given = folder / "given"
        self.given.mkdir(parents=True)
        shutil.copy(SAMPLES / "flash.mp4", self.given / "clip.mp4")
        write_data(self.given / "data")
        for args in (
            ("encode", "given/clip.mp4", "-o", "given/tokens.safetensors"),
            ("compress", "given/tokens.safetensors", "-o", "given/kept.safetensors", "--ratio", "0.3"),
        ):
            code, text = self.run(args, folder)
            if code:
                raise RuntimeError(f"{args[0]} ended with {code}: {text}")
        self.light = self._time(("--version",))

    def measure(self, job: Job) -> None:
        """Run a job undisturbed, unless that was done."""
        if job in self.allowed:
            return
        with self.place("measured") as place:
            began = time.monotonic()
            code, text = self.run(job.args, place)
            took = time.monotonic() - began
            if code:
                raise RuntimeError(f"{job.name} ended with {code}: {text}")
            self.allowed[job] = names(place) | set(job.kept)
            self.reference |= {(job, name): (place / name).read_bytes() for name in job.outputs}
        self.seconds[job, True] = took
        self.seconds[job, False] = took + 12 * self.light  # the imports of torch and of others

    def run(self, args: tuple[str, ...], place: Path) -> tuple[int, str]:
        """Exit code and everything printed by an undisturbed run."""
        errors = place.parent / f"{place.name}.log"
        process = self.warm.start(list(args), place, environment(place), errors)
        try:
            code = process.wait(LONGEST)
        except TimeoutError:
            code = _end(process)
        return code, errors.read_text(errors="replace")

    @contextmanager
    def place(self, name: str) -> Iterator[Path]:
        """A folder for one trial, with the given files in it."""
        place = self.folder / name
        place.mkdir()
        (place / "given").symlink_to(self.given)
        (place / "tmp").mkdir()
        try:
            yield place
        finally:
            shutil.rmtree(place)
            place.with_name(f"{name}.log").unlink(missing_ok=True)

    def _time(self, args: tuple[str, ...]) -> float:
        began = time.monotonic()
        self.cold.start(list(args), self.folder, environment(self.folder), self.folder / "time.log").wait(LONGEST)
        return time.monotonic() - began

    def close(self) -> None:
        """End the warm process."""
        self.warm.close()


def trials(seed: int, folder: Path, count: int) -> Iterator[Trial]:
    """`count` trials, the first of which belongs to `seed`, the next to the number after it."""
    setup = Setup(folder / "kills")
    try:
        for number in range(seed, seed + count):
            yield trial(number, setup)
    finally:
        setup.close()


def trial(seed: int, setup: Setup) -> Trial:
    """One run that is stopped."""
    choose = random.Random(seed)
    job, number = choose.choice(JOBS), choose.choice(SIGNALS)
    warm, before, twice = choose.random() > COLD, choose.random() < 0.4, choose.random() < 0.2
    moment, again = choose.uniform(0, 1.05), choose.random() < 0.15
    setup.measure(job)
    name = f"seed {seed}: {job.name}{', over an old one' * before}, {signal.Signals(number).name} at {moment:.0%} of "
    name += "a warm start" if warm else "a cold start"
    with setup.place(f"seed-{seed}") as place:
        args = list(job.args)
        if before:
            args.append("--force")
            (place / "results").mkdir()
            for output in job.outputs:
                (place / output).write_bytes(OLD)
        log = place.with_name(f"{place.name}.log")
        process = (setup.warm if warm else setup.cold).start(args, place, environment(place), log)
        time.sleep(moment * setup.seconds[job, warm])
        failure = _stopped(setup, job, process, number, twice, place, before)
        if failure is None and (number == signal.SIGKILL or again):
            failure = _next_run(setup, job, place, before)
        text = log.read_text(errors="replace")
    return Trial(KIND, name, failure and f"{failure}; it printed: {text[-2000:]}")


def _stopped(
    setup: Setup, job: Job, process: Process, number: int, twice: bool, place: Path, before: bool
) -> str | None:
    """Send the signal, perhaps twice as `timeout` does, wait for the end and look at what is left."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, number)
        if twice:
            os.kill(process.pid, number)
    try:
        code = process.wait(PROMPT)
    except TimeoutError:
        _end(process)
        return f"it went on for {PROMPT:.0f} s"
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
        if number != signal.SIGKILL:
            return "a process of its group went on"
    text = place.with_name(f"{place.name}.log").read_text(errors="replace")
    early = "stsimdiff_cli" not in text  # the interpreter itself was starting: no line of ours had run
    if code not in (0, -number, 128 + number) and not (early and code == 1):
        return f"exit code {code}"
    done = all((place / name).exists() and (place / name).read_bytes() != OLD for name in job.outputs)
    if code == -number and number != signal.SIGKILL and text and not done:  # handlers go while the interpreter exits
        return f"ended by the signal in the middle, exit code {code}"
    if ("Traceback" in text and not early) or "Exception ignored" in text:
        return "a traceback"
    return _looked_at(setup, job, place, code, number, before)


def _end(process: Process) -> int:
    """End a process that hangs. Before that, it prints where it hangs."""
    os.kill(process.pid, signal.SIGABRT)
    code = process.wait(LONGEST)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return code


def _looked_at(setup: Setup, job: Job, place: Path, code: int, number: int, before: bool) -> str | None:
    """What is wrong with the files in the folder."""
    for output in job.outputs:
        path = place / output
        if not path.exists():
            if before:
                return f"{output} is gone"
            if code == 0:
                return f"{output} was not written, and the exit code is 0"
        elif not (before and code and path.read_bytes() == OLD) and (wrong := _not_whole(setup, job, output, path)):
            return wrong
    left = names(place) - setup.allowed[job] - ({"results"} if before else set())
    if number == signal.SIGKILL:
        left = {name for name in left if not Path(name).name.startswith(_TEMPORARY)}
    return f"left behind: {', '.join(sorted(left))}" if left else None


def _not_whole(setup: Setup, job: Job, output: str, path: Path) -> str | None:
    content = path.read_bytes()
    if job.same:
        return None if content == setup.reference[job, output] else f"{output} is not what an undisturbed run writes"
    if path.suffix == ".json":
        try:
            json.loads(content)
        except ValueError:
            return f"{output} is half a file"
    whole = len(content) > 0.9 * len(setup.reference[job, output])  # numbers of seconds differ
    return None if whole else f"{output} has {len(content)} bytes"


def _next_run(setup: Setup, job: Job, place: Path, before: bool) -> str | None:
    """The same command again: it works, goes on where it can, and removes what a kill left over."""
    there = any((place / output).exists() for output in job.outputs) and job.args[0] != "eval"
    code, text = setup.run((*job.args, "--force") if there or before else job.args, place)
    if code:
        return f"the next run ended with {code}: {text[-1000:]}"
    left = names(place) - setup.allowed[job] - {"results"} | names(place) & {"out.json.partial"}
    if left:
        return f"left behind after the next run: {', '.join(sorted(left))}"
    return next((wrong for o in job.outputs if (wrong := _not_whole(setup, job, o, place / o))), None)


def names(folder: Path) -> set[str]:
    """Everything in a folder, without the given files and torch's own cache."""
    found = (p for p in folder.rglob("*") if not any(part == "given" or part.startswith(_CACHE) for part in p.parts))
    return {str(p.relative_to(folder)) for p in found} - {"tmp"}


def environment(folder: Path) -> dict[str, str]:
    """A temporary folder of its own, so that what is left there is seen."""
    return {"PYTHONFAULTHANDLER": "1", "TMPDIR": str(folder / "tmp"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def write_data(folder: Path) -> None:
    """Two questions in LongVideoBench's layout."""
    (folder / "videos").mkdir(parents=True)
    rows = []
    for clip in ("flash", "move"):
        shutil.copy(SAMPLES / f"{clip}.mp4", folder / "videos")
        row = {
            "id": clip,
            "video_id": clip,
            "video_path": f"{clip}.mp4",
            "question": "How many stars are there?",
            "candidates": ["two", "red", "four"],
            "correct_choice": 0,
            "question_category": "S2E",
            "level": "L1-Perception",
            "duration_group": 15,
        }
        rows.append(row)
    (folder / "lvb_val.json").write_text(json.dumps(rows))
