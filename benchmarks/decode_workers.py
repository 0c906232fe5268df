"""Measures how much faster several workers decode: ratios to one worker, within a round.

    python benchmarks/decode_workers.py --folder DIR [--workers 1,2,4] [--repeats 5] [--output FILE]

Renders the clips of decoders.py and one with a single group of pictures into the folder unless they exist (minutes for
the full length). A round reads the chosen frames once with each number of workers, in turning order, and the frames of
all must be the same to the bit. Speed-up is the time of one worker divided by that of several in the same round.

The machine may be shared. `wanting a core` is the share of its time for which a worker was ready and got no core, as
the kernel counts it (Linux), and `speedup_with_free_cores` the speed-up if that time is left out: an estimate, which
must be near the speed-up itself where cores are free.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import threading
import time
from pathlib import Path
from typing import Any

from decoders import CLIPS, RATE, make_clip
from pace import WORKERS

from stsimdiff_cli.machine import describe
from stsimdiff_cli.video import Sampling, Scan, choose_frames, read_frames, scan
from stsimdiff_cli.video.dividing import cores, divide
from stsimdiff_cli.video.workers import Workers

ONE_GROUP = "keyint=infinite:scenecut=0:bframes=3"
CHUNK = 8


class Waits:
    """Seconds for which each worker's thread waited for a core, and lived."""

    def __init__(self) -> None:
        self.threads: list[tuple[float, float]] = []
        read_parts = Workers._read_parts

        def watched(workers: Workers, worker: int) -> None:
            start = time.perf_counter()
            read_parts(workers, worker)
            self.threads.append((waited(), time.perf_counter() - start))

        Workers._read_parts = watched  # type: ignore[method-assign]


def waited() -> float:
    """Seconds for which this thread was ready to run and had no core, since it began; 0 where that is not known."""
    file = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
    return int(file.read_text().split()[1]) / 1e9 if file.exists() else 0.0


def measure(path: Path, video: Scan, indices: list[int], workers: int, waits: Waits) -> dict[str, Any]:
    """Read the frames once, and take a digest of them in the time that is not measured."""
    waits.threads.clear()
    digest, spent = hashlib.sha256(), 0.0
    start, cpu, before = time.perf_counter(), time.process_time(), waited()
    for frames in read_frames(path, video, indices, CHUNK, workers=workers):
        pause = time.perf_counter()
        digest.update(frames.pixels[:, ::16].contiguous().numpy())
        spent += time.perf_counter() - pause
    seconds = time.perf_counter() - start
    if not waits.threads:  # decoded by this thread
        waits.threads.append((waited() - before, seconds))
    free = statistics.mean(max(life - wait, 1e-9) for wait, life in waits.threads)
    return {
        "seconds": seconds - (spent if len(waits.threads) == 1 else 0),
        "cpu_seconds": time.process_time() - cpu,
        "seconds_with_free_cores": free - (spent if len(waits.threads) == 1 else 0),
        "wanting_a_core": sum(w for w, _ in waits.threads) / sum(life for _, life in waits.threads),
        "digest": digest.hexdigest(),
    }


def compare(path: Path, frames: int, counts: list[int], repeats: int, waits: Waits) -> list[dict[str, Any]]:
    """A row for each number of workers. SystemExit if they deliver different frames."""
    video = scan(path)
    indices = list(choose_frames(video, Sampling(frames=frames)))
    rounds: list[dict[int, dict[str, Any]]] = []
    for number in range(repeats):
        order = counts[number % len(counts) :] + counts[: number % len(counts)]
        rounds.append({workers: measure(path, video, indices, workers, waits) for workers in order})
        if len({row["digest"] for row in rounds[-1].values()}) > 1:
            raise SystemExit(f"{path.name}: the frames depend on the number of workers")
    rows = []
    for workers in counts:
        division = divide(video, indices, CHUNK, workers)
        row: dict[str, Any] = {
            "clip": path.stem,
            "frames": len(indices),
            "workers": workers,
            "parts": len(division.parts),
            "at_once": division.workers,
            "threads": division.threads,
        }
        for name in ("seconds", "cpu_seconds", "wanting_a_core"):
            row[name] = spread([a_round[workers][name] for a_round in rounds])
        for name, figure in (("speedup", "seconds"), ("speedup_with_free_cores", "seconds_with_free_cores")):
            row[name] = spread([a_round[counts[0]][figure] / a_round[workers][figure] for a_round in rounds])
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def spread(values: list[float]) -> dict[str, float]:
    """Median, minimum and maximum."""
    return {"median": round(statistics.median(values), 3), "from": round(min(values), 3), "to": round(max(values), 3)}


def main() -> None:
    """Parse the arguments, render clips and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where clips are, or will be")
    parser.add_argument("--clips", default="often,closed,one")
    parser.add_argument("--seconds", type=int, default=600, help="length of clips that are rendered")
    parser.add_argument("--frames", default="64,512")
    parser.add_argument("--workers", help="numbers of workers; by default 1, 2, 4 and so on up to the cores")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, help="JSON report to write")
    arguments = parser.parse_args()
    powers = [2**k for k in range(cores().bit_length()) if 2**k <= cores()]
    counts = sorted({1, *(map(int, arguments.workers.split(",")) if arguments.workers else (*powers, cores()))})
    report: dict[str, Any] = {"format": WORKERS, "machine": describe(), "load_before": os.getloadavg(), "rate": RATE}
    report["rows"] = []
    waits = Waits()
    for name in arguments.clips.split(","):
        path = arguments.folder / f"{name}.mp4"
        if not path.is_file():
            make_clip(path, CLIPS.get(name, ONE_GROUP), arguments.seconds)
        for frames in map(int, arguments.frames.split(",")):
            report["rows"] += compare(path, frames, counts, arguments.repeats, waits)
    report |= {"load_after": os.getloadavg(), "repeats": arguments.repeats}
    if arguments.output:
        arguments.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
