"""Runs one archive in many ways, kills some of them, and compares every output to the byte.

    python -m benchmarks.archives --folder DIR [--clips 2000] [--ways serial,local,...] [--output FILE]

Renders the clips into the folder unless they are there: 95 % good ones of 4 to 12 frames, 5 % hostile (cut off, empty,
texts, sound alone, and noise under a video's name). Then `stsimdiff compress` runs over them with the embedded model:

    serial   in the program's own process
    again    the same command once more, when everything is done
    local    with two worker processes
    ray      on a Ray cluster of three nodes on this machine (needs stsimdiff[ray])
    shards   three shards one after another, then two of five over what a fourth of the outputs' loss left
    killed   local, killed by SIGKILL at twenty random moments: the program itself and one of its workers in turn
    finished no videos: 2,000 small tokens files, compressed with the method uniform, and then the same command again
    work     no archive: for 200 clips in turn, the CPU time of decoding alone, of encoding alone (from frames in memory
             to the compressed file), and of the function that a worker calls for an item

Ways that are in the report already are kept, so that the rest can be measured later: a run that was stopped goes on
with the way that it was at, which begins anew. A report of another number of clips is refused. CPU seconds of the
program are those of its own process, without workers. The machine may be shared: seconds by the clock say little.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from stsimdiff_cli.archive.identity import identified
from stsimdiff_cli.archive.job import Job, Performer, Task
from stsimdiff_cli.archive.sources import find
from stsimdiff_cli.machine import describe
from stsimdiff_cli.methods.spec import parse_method
from stsimdiff_cli.models.inference.model_cache import ModelCache
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.pipeline import CHUNK, Context, compress_tokens, encode_frames
from stsimdiff_cli.ratio import parse_ratio
from stsimdiff_cli.records import FrameStream
from stsimdiff_cli.storage.writing import save_compressed, save_tokens
from stsimdiff_cli.video import Sampling, open_stream
from tests.support.archives import items_of, leftovers, outputs, rows
from tests.support.clip_factory import render, render_sound, truncate
from tests.support.ray_cluster import RayCluster
from tests.support.tokens import make_tokens

HOSTILE = 20  # one in so many is hostile
KILLS = 20
WARM = 5  # clips that are not counted
FINISHED = 2000
OPTIONS = ("--ratio", "0.3", "--frames", "4", "--json")
FORMAT = "stsimdiff.benchmark.archives/1"
_TICK = os.sysconf("SC_CLK_TCK")


def make_corpus(folder: Path, clips: int) -> list[str]:
    """Render what is missing; the names of the hostile files."""
    hostile = []
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(clips):
        path = folder / f"{number // 100:02}" / f"{number:05}.mp4"
        if number % HOSTILE == HOSTILE - 1:
            hostile.append(path.relative_to(folder).as_posix())
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            _make(path, number)
    return hostile


def _make(path: Path, number: int) -> None:
    if number % HOSTILE != HOSTILE - 1:
        render(path, range(number, number + 4 + number % 9), size=(64, 64))
        return
    kind = number // HOSTILE % 5
    if kind == 0:
        render(path, range(number, number + 8), size=(64, 64))
        truncate(path, 0.3)
    elif kind == 1:
        path.write_bytes(b"")
    elif kind == 2:
        path.write_text(f"not a video, but text {number}")
    elif kind == 3:
        render_sound(path)
        with path.open("ab") as file:  # no two are equal
            file.write(b"\0\0\0\x10free" + number.to_bytes(8, "big"))
    else:
        path.write_bytes(random.Random(number).randbytes(5000))


class Program:
    """One start of the program."""

    def __init__(
        self, source: Path, out: Path, *more: object, options: Sequence[str] = OPTIONS, **environment: str
    ) -> None:
        self.began, self.cpu = time.monotonic(), 0.0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "stsimdiff_cli", "compress", source, "-o", out, *options, *map(str, more)],
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def watch(self, until: Callable[[], bool] = lambda: False) -> int | None:
        """Wait for the end, or until something is so; the exit code."""
        while self._process.poll() is None and not until():
            with suppress(OSError):
                fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
                self.cpu = (int(fields[11]) + int(fields[12])) / _TICK
            time.sleep(0.02)
        return self._process.returncode

    def kill(self) -> bool:
        """End it by SIGKILL; False if it had ended by itself."""
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()
        return self._process.returncode == -signal.SIGKILL

    def end(self) -> dict[str, Any]:
        """Wait for the end; what was measured, and what it reported."""
        code = self.watch()
        text, _ = self._process.communicate()
        report = json.loads(text) if text else {}
        return {
            "exit_code": code,
            "seconds": round(time.monotonic() - self.began, 2),
            "own_cpu_seconds": round(self.cpu, 2),
            **{name: report.get(name) for name in ("items", "success", "done_before", "failed", "failed_before")},
        }


def checked(out: Path, hostile: list[str], wanted: str | None) -> dict[str, Any]:
    """What a way came to: the digest of all outputs, and what is counted."""
    files = outputs(out)
    digest = hashlib.sha256("".join(f"{n} {hashlib.sha256(b).hexdigest()}\n" for n, b in files.items()).encode())
    lines = rows(out)
    success = Counter(row["id"] for row in lines if row["status"] == "success")
    failed = {row["path"] for row in lines if row["status"] == "failed" and not row["transient"]}
    return {
        "outputs": len(files),
        "digest": digest.hexdigest(),
        "as_serial": None if wanted is None else digest.hexdigest() == wanted,
        "items_with_output": len(set(items_of(out))),
        "done_twice": sum(count > 1 for count in success.values()),
        "without_row": len(files) - len(success),
        "failed_as_hostile": failed == set(hostile),
        "transient_failures": sum(row["status"] == "failed" and row["transient"] for row in lines),
        "left_over": len(leftovers(out)),
    }


def serial(source: Path, out: Path) -> dict[str, Any]:
    """In the program's own process."""
    done = Program(source, out, "--workers", 0).end()
    work = [row["seconds"] for row in rows(out) if row["status"] == "success"]
    done["work_seconds"] = round(sum(sum(s.values()) for s in work) - sum(s.get("load", 0) for s in work), 2)
    return done


def again(source: Path, out: Path) -> dict[str, Any]:
    """Once more, when everything is done."""
    return Program(source, out.with_name("serial"), "--workers", 0).end()


def local(source: Path, out: Path) -> dict[str, Any]:
    """With two worker processes."""
    return Program(source, out, "--workers", 2).end()


def ray(source: Path, out: Path) -> dict[str, Any]:
    """On a cluster of three nodes."""
    with RayCluster([1, 1, 1]) as cluster:
        return Program(source, out, "--executor", "ray", RAY_ADDRESS=cluster.address).end()


def shards(source: Path, out: Path) -> dict[str, Any]:
    """Three of three; then every fourth output is lost, and five of five make them again."""
    for index in range(3):
        Program(source, out, "--workers", 0, "--shard", f"{index}/3").end()
    made = sorted(out.rglob("*.safetensors"))
    for path in made[::4]:
        path.unlink()
    done = [Program(source, out, "--workers", 0, "--shard", f"{index}/5").end() for index in range(5)]
    return {"lost": len(made[::4]), "made_again": sum(part["success"] for part in done)}


def killed(source: Path, out: Path) -> dict[str, Any]:
    """SIGKILL at random moments, for the program or one of its workers; then on to the end."""
    dice, made, changed = random.Random(0), dict[Path, int](), 0
    victims: Counter[str] = Counter()
    total = sum(1 for _ in source.rglob("*.mp4"))
    program = Program(source, out, "--workers", 2, "--attempts", 5)
    for number in range(KILLS):
        have = len(outputs_of(out))
        wanted = have + dice.randint(1, max(1, 2 * (total - have) // (KILLS - number + 1)))
        program.watch(lambda wanted=wanted: len(outputs_of(out)) >= wanted)
        time.sleep(dice.uniform(0, 0.2))
        workers = workers_of(out)
        if number % 2 and workers:
            victims["worker"] += 1
            os.kill(dice.choice(workers), signal.SIGKILL)
        else:
            victims["program"] += program.kill()
            time.sleep(1)  # its workers end by themselves
            program = Program(source, out, "--workers", 2, "--attempts", 5)
        for path in outputs_of(out):
            inode = path.stat().st_ino
            changed += made.setdefault(path, inode) != inode
    return {**program.end(), "kills": dict(victims), "made_again": changed}


def workers_of(out: Path) -> list[int]:
    """The worker processes that are alive, of those that ended the last items: forked from the program's own server."""
    done = sorted((row for row in rows(out) if row["status"] == "success"), key=lambda row: row["finished"])
    alive = []
    for pid in sorted({row["pid"] for row in done[-4:]}):
        with suppress(OSError):
            if "forkserver" in Path(f"/proc/{pid}/cmdline").read_text():
                alive.append(pid)
    return alive


def finished(source: Path, out: Path) -> dict[str, Any]:  # noqa: ARG001
    """A second start over items that are all done, of which the first one made FINISHED."""
    tokens = out.with_name("tokens")
    tokens.mkdir(exist_ok=True)
    for number in range(FINISHED):
        save_tokens(tokens / f"{number:05}.safetensors", make_tokens((4, 3, 5), seed=number))
    options = ("--ratio", "0.3", "--method", "uniform", "--workers", "0", "--json")
    first = Program(tokens, out, options=options).end()
    again = Program(tokens, out, options=options).end()
    return {**again, "first_cpu_seconds": first["own_cpu_seconds"], "first_success": first["success"]}


def outputs_of(out: Path) -> list[Path]:
    """The outputs that are there."""
    return list(out.glob("??/*.safetensors"))


def work(source: Path, out: Path) -> dict[str, Any]:
    """CPU seconds of decoding, of encoding, and of both as a worker does it, clip by clip in turn."""
    out.mkdir(exist_ok=True)
    method, ratio = parse_method("st-simdiff"), parse_ratio("0.3")
    job = Job(out, sampling=Sampling(4), chosen=True, runtime=Runtime("cpu"), method=method, ratio=ratio)
    perform, context, torch_threads = Performer(job), Context(ModelCache()), torch.get_num_threads()
    torch.set_num_threads(1)
    spent: Counter[str] = Counter()
    items = [
        item
        for item in identified(find([str(source)], None, False))
        if int(Path(item.path).stem) % HOSTILE < HOSTILE - 1
    ]
    for number, item in enumerate(items[: WARM + 200]):
        began = time.process_time()
        stream = open_stream(item.path, job.sampling_of(item), CHUNK)
        frames = list(stream.chunks)
        decoded = time.process_time()
        tokens = encode_frames(
            FrameStream(stream.source, stream.count, iter(frames)), "tiny", job.runtime, context=context
        )
        video = compress_tokens(tokens, ratio, method, job.runtime, context=context)
        save_compressed(out / "one.safetensors", video)
        encoded = time.process_time()
        perform(Task(item, f"{item.id[:2]}/{item.id[:8]}.safetensors"))
        whole = time.process_time()
        if number >= WARM:  # models are loaded
            spent.update(decode=decoded - began, encode=encoded - decoded, whole=whole - encoded)
    torch.set_num_threads(torch_threads)
    return {
        "clips": len(items[WARM : WARM + 200]),
        **{f"{name}_cpu_seconds": round(value, 3) for name, value in spent.items()},
        "whole_to_sum": round(spent["whole"] / (spent["decode"] + spent["encode"]), 3),
        "two_workers_to_larger": round(spent["whole"] / 2 / max(spent["decode"], spent["encode"]), 3),
    }


WAYS: dict[str, Callable[[Path, Path], dict[str, Any]]] = {
    way.__name__: way for way in (serial, again, local, shards, killed, work, finished, ray)
}


def main() -> None:
    """Parse the arguments, render clips, and run every way that is not in the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where clips and outputs are, or will be")
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--output", type=Path, help="JSON report to write, and to go on with")
    arguments = parser.parse_args()
    report: dict[str, Any] = {"format": FORMAT, "machine": describe(), "clips": arguments.clips, "ways": {}}
    if arguments.output and arguments.output.exists():
        earlier = json.loads(arguments.output.read_text())
        if earlier["clips"] != arguments.clips:
            parser.error(f"{arguments.output} is of {earlier['clips']} clips: name another, or remove it.")
        report["ways"] = earlier["ways"]
    source = arguments.folder / f"videos-{arguments.clips}"
    hostile = make_corpus(source, arguments.clips)
    report["hostile"] = len(hostile)
    for name in arguments.ways.split(","):
        if name in report["ways"]:
            continue
        out = arguments.folder / name
        shutil.rmtree(out, ignore_errors=True)
        done = WAYS[name](source, out)
        if name not in ("again", "finished", "work"):
            done |= checked(out, hostile, report["ways"].get("serial", {}).get("digest"))
            done["done_twice"] -= done.get("lost", 0)  # what was taken away had to be made again
        report["ways"][name] = done | {"load": os.getloadavg()[0]}
        print(name, json.dumps(report["ways"][name]), flush=True)
        if arguments.output:
            arguments.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
