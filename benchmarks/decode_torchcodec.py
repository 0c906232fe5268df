"""Measures reading 64 frames of a ten-minute clip by PyAV and by torchcodec with as many threads, in turn.

    python benchmarks/decode_torchcodec.py --folder DIR [--threads 1,2] [--repeats 5] [--output FILE]

A minute of a clip of decoders.py (1280 x 720, H.264) is rendered into the folder and repeated ten times without
encoding it again, unless the file exists. Ours is `scan` and `read_frames` with N workers. Theirs is `VideoDecoder`
with N threads of FFmpeg and exact seeks, for which it scans the file too, and one call for all frames. Both begin with
the name of the file and end when all frames are in memory. A round measures all, in turning order, in one process, and
all must give the same pixels to the bit. Ratios are taken within a round. Needs stsimdiff[torchcodec].

The machine may be shared, which spoils seconds by the clock. So there is `free_seconds`, what they would be on free
cores, as many as threads. Ours is an estimate from above: the scan and the longest worker, without the time for which
their threads were ready and got no core, as the kernel counts it (Linux). Theirs is a bound from below: the CPU time
divided by the number of threads, as if these shared all work evenly.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import time
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av
from decode_workers import Waits, spread, waited
from decoders import CLIPS, make_clip

from stsimdiff_cli.machine import describe
from stsimdiff_cli.video import Sampling, choose_frames, read_frames, scan

MINUTE = 60  # seconds that are rendered
OURS, THEIRS = "pyav", "torchcodec"
FORMAT = "stsimdiff.decode-torchcodec/1"


def ours(path: Path, indices: list[int], workers: int, waits: Waits) -> tuple[list[Any], float]:
    """The frames by `read_frames`, as chunks (n, H, W, 3) uint8, and the seconds that this takes on free cores."""
    waits.threads.clear()
    start, before = time.perf_counter(), waited()
    video = scan(path)
    scanned = time.perf_counter() - start - (waited() - before)
    chunks = [part.pixels for part in read_frames(path, video, indices, workers=workers)]
    if waits.threads:  # of workers; else all was done by this thread
        return chunks, scanned + max(life - wait for wait, life in waits.threads)
    return chunks, time.perf_counter() - start - (waited() - before)


def theirs(path: Path, indices: list[int], threads: int) -> list[Any]:
    """The frames by torchcodec: (frames, H, W, 3) uint8 in one chunk."""
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=threads, seek_mode="exact")
    return [decoder.get_frames_at(indices).data]


def measure(reader: str, path: Path, indices: list[int], threads: int, waits: Waits) -> dict[str, Any]:
    """Read the frames once. The digest of all pixels is taken when the clocks have stopped."""
    start, cpu = time.perf_counter(), time.process_time()
    if reader == OURS:
        chunks, free = ours(path, indices, threads, waits)
    else:
        chunks, free = theirs(path, indices, threads), None
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk.contiguous().numpy())
    free = cpu_seconds / threads if free is None else free
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "free_seconds": free, "digest": digest.hexdigest()}


def compare(path: Path, frames: int, threads: list[int], repeats: int, waits: Waits) -> list[dict[str, Any]]:
    """A row for each number of threads and reader. SystemExit if two deliver different frames."""
    indices = list(choose_frames(scan(path), Sampling(frames=frames)))
    cases = [(reader, count) for count in threads for reader in (OURS, THEIRS)]
    rounds = []
    for number in range(repeats):
        turn = number % len(cases)
        order = cases[turn:] + cases[:turn]
        rounds.append({case: measure(case[0], path, indices, case[1], waits) for case in order})
        if len({row["digest"] for row in rounds[-1].values()}) > 1:
            raise SystemExit(f"{path.name}: the readers deliver different frames")
    rows = []
    for reader, count in cases:
        row: dict[str, Any] = {"clip": path.stem, "frames": len(indices), "reader": reader, "threads": count}
        for name in ("seconds", "cpu_seconds", "free_seconds"):
            row[name] = spread([a_round[reader, count][name] for a_round in rounds])
            ratios = [a_round[reader, count][name] / a_round[THEIRS, count][name] for a_round in rounds]
            row[f"{name}_to_torchcodec"] = spread(ratios)
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def repeat_clip(minute: Path, path: Path, times: int) -> None:
    """Write a clip several times in a row into another file, without encoding it again."""
    partial = path.with_suffix(".part.mp4")
    with av.open(str(partial), "w") as target:
        stream = None
        for number in range(times):
            with av.open(str(minute)) as source:
                picture = source.streams.video[0]
                stream = stream or target.add_stream_from_template(picture)
                shift = int(number * Fraction(picture.frames) / picture.average_rate / picture.time_base)
                for packet in source.demux(picture):
                    if packet.size:
                        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                        packet.stream = stream
                        target.mux(packet)
    partial.rename(path)


def clip_in(folder: Path, name: str, minutes: int) -> Path:
    """The clip in the folder, made unless it is there."""
    path, minute = folder / f"{name}-{minutes}min.mp4", folder / f"{name}-1min.mp4"
    if not path.is_file():
        if not minute.is_file():
            make_clip(minute, CLIPS[name], MINUTE)
        repeat_clip(minute, path, minutes)
    return path


def main() -> None:
    """Parse the arguments, make clips and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where clips are, or will be")
    parser.add_argument("--clips", default="often,closed", help="of " + ", ".join(CLIPS))
    parser.add_argument("--minutes", type=int, default=10, help="length of the clips")
    parser.add_argument("--frames", default="64")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, help="JSON report to write")
    arguments = parser.parse_args()
    paths = [clip_in(arguments.folder, name, arguments.minutes) for name in arguments.clips.split(",")]
    threads = list(map(int, arguments.threads.split(",")))
    report: dict[str, Any] = {
        "format": FORMAT,
        "machine": describe() | {"pyav": av.__version__, "torchcodec": version("torchcodec")},
        "minutes": arguments.minutes,
        "rounds": arguments.repeats,
        "load_before": os.getloadavg(),
    }
    cases = itertools.product(paths, map(int, arguments.frames.split(",")))
    waits = Waits()
    report["rows"] = [row for path, frames in cases for row in compare(path, frames, threads, arguments.repeats, waits)]
    report["load_after"] = os.getloadavg()
    if arguments.output:
        arguments.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
