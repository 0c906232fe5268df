"""Compares the speed and exactness of PyAV, decord and torchcodec on a 10-minute 1280 x 720 H.264 clip.

    python benchmarks/decoders.py --folder DIR [--repeats 3]         every reader, ratios to PyAV
    python benchmarks/decoders.py --folder DIR --parts               where PyAV's time goes

Renders the clips into the folder unless they exist (minutes). Prints one JSON line for the machine, then one for each
clip, number of frames and reader. Every measurement runs in its own process; a round measures all readers once, and
ratios are taken within a round. `pyav:2` is PyAV with two workers, plain `pyav` with one; see decode_workers.py.
Every frame is compared with that of a plain decode of the whole clip. The time of comparing is subtracted; peak memory
includes the frames read for it (2.8 MB each).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np

SIZE = (1280, 720)
RATE = 30
SCENE = 20 * RATE  # frames until the background changes, which does not force a key frame
#: How the three clips differ, as options of x264. All have B-frames, as in its presets.
CLIPS = {
    "closed": "keyint=250:min-keyint=250:scenecut=0:bframes=3",
    "open": "keyint=250:min-keyint=250:scenecut=0:bframes=3:open-gop=1",
    "often": "keyint=60:min-keyint=60:scenecut=0:bframes=3",
}
COLOURS = "colorprim=bt709:transfer=bt709:colormatrix=bt709:range=tv"


def pictures(count: int) -> Iterator[np.ndarray]:
    """YUV 4:2:0 pictures (H 3/2, W) uint8: a background that pans, six boxes that move, noise."""
    width, height = SIZE
    random = np.random.default_rng(0)
    noise = random.integers(0, 5, (8, height, width), dtype=np.uint8)
    for i in range(count):
        if i % SCENE == 0:
            ground = background(random)
        left, up = 2 * (i % SCENE) % 512, int(100 + 90 * np.sin(i / 90))
        picture = np.empty((height * 3 // 2, width), np.uint8)
        np.add(ground[up : up + height, left : left + width], noise[i % 8], out=picture[:height])
        for k in range(6):
            x, y = (i * (3 + k) + 211 * k) % (width - 120), (i * (2 + k % 3) + 97 * k) % (height - 90)
            picture[y : y + 90, x : x + 120] = 60 + 30 * k
        picture[height:] = 128 + (i // SCENE * 7) % 40
        yield picture


def background(random: np.random.Generator) -> np.ndarray:
    """A texture larger than a picture, with coarse patches and fine grain: uint8, 30 to 219."""
    width, height = SIZE[0] + 512, SIZE[1] + 200
    coarse = np.kron(random.integers(0, 120, (height // 40 + 1, width // 40 + 1)), np.ones((40, 40)))
    fine = np.kron(random.integers(0, 70, (height // 4 + 1, width // 4 + 1)), np.ones((4, 4)))
    return (30 + coarse[:height, :width] + fine[:height, :width]).astype(np.uint8)


def make_clip(path: Path, options: str, seconds: int) -> None:
    """Encode one clip, under another name until it is complete. It names its colours: without, readers differ."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part.mp4")
    parameters = {"preset": "veryfast", "x264-params": f"{options}:{COLOURS}"}
    with av.open(str(partial), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options=parameters)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.bit_rate = 3_000_000
        for i, picture in enumerate(pictures(seconds * RATE)):
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    partial.rename(path)


def decode_whole(path: Path, indices: list[int], scan: Any, folder: Path) -> dict[str, Any]:
    """Decode the clip from end to end with PyAV alone and keep the RGB of the frames `indices`.

    A frame's number and its time must agree. Also returns how much frames differ from the ones before them.
    """
    import av

    wanted = {index: row for row, index in enumerate(indices)}
    shape = (len(indices), scan.height, scan.width, 3)
    kept = np.lib.format.open_memmap(folder / f"{path.stem}.npy", "w+", np.uint8, shape)
    change, before, start = [], None, None
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            start = frame.time if start is None else start
            if number in wanted:
                if abs(frame.time - start - scan.seconds[number]) > scan.tick / 2:
                    raise SystemExit(f"Frame {number} is shown at {frame.time - start} s, not {scan.seconds[number]} s")
                rgb = frame.to_ndarray(format="rgb24")
                kept[wanted[number]] = rgb
                if before is not None:
                    change.append(distance(rgb, before.to_ndarray(format="rgb24"))[1])
            before = frame
    return {"frames": number + 1, "least_mean_change_to_the_frame_before": round(min(change), 2)}


def distance(a: np.ndarray, b: np.ndarray) -> tuple[int, float]:
    """Largest and mean absolute difference of two pictures."""
    difference = np.abs(a.astype(np.int16) - b)
    return int(difference.max()), float(difference.mean())


def child(job: dict[str, Any]) -> dict[str, Any]:
    """Measure once in this process: scan, choose and read; compare if the job names a reference."""
    import torch

    from stsimdiff_cli.profiling.memory import PeakMemory
    from stsimdiff_cli.video import READERS, Sampling, choose_frames, pyav_reader, read_frames, scan, source_of

    path, (name, _, threads) = Path(job["path"]), job["reader"].partition(":")
    READERS.load(name).require()
    memory = PeakMemory(torch.device("cpu"))
    memory.reset()
    spent = Spent(pyav_reader) if job.get("parts") else None
    reference = np.load(job["reference"], mmap_mode="r") if job.get("reference") else None
    start, cpu = time.perf_counter(), time.process_time()
    video = scan(path)
    scanned = time.perf_counter() - start
    indices = choose_frames(video, Sampling(frames=job["frames"]))
    compared = Compared(reference, [job["rows"][str(i)] for i in indices] if reference is not None else [])
    for part in read_frames(path, video, indices, decoder=name, workers=int(threads or 1)):
        compared.add(part.pixels.numpy())
        del part
    figures = {
        "seconds": time.perf_counter() - start - compared.seconds,
        "scan_seconds": scanned,
        "cpu_seconds": time.process_time() - cpu - compared.cpu_seconds,
        "peak_bytes": memory.read(),
        "delivered": compared.delivered,
        "exact": compared.exact,
        "largest_difference": compared.largest,
        "largest_mean_difference": compared.largest_mean,
    }
    if spent:
        start = time.process_time()
        source_of(path, video, name)
        hashed = time.process_time() - start  # after the rest, and in none of the sums
        figures |= {"hash_cpu_seconds": hashed, **spent.seconds, "packets": spent.calls["feed"]}
    return figures


class Compared:
    """Counts frames and compares them with the rows of a reference; measures the time this takes, to subtract it."""

    def __init__(self, reference: np.ndarray | None, rows: list[int]) -> None:
        self.reference, self.rows = reference, rows
        self.delivered = self.exact = self.largest = 0
        self.largest_mean = self.seconds = self.cpu_seconds = 0.0

    def add(self, pictures: np.ndarray) -> None:
        """Compare the next frames, a chunk (n, H, W, 3)."""
        start, cpu = time.perf_counter(), time.process_time()
        if self.reference is not None:
            for row, picture in zip(self.rows[self.delivered :], pictures, strict=False):
                largest, mean = distance(picture, self._picture(row))
                self.exact += largest == 0
                self.largest, self.largest_mean = max(self.largest, largest), max(self.largest_mean, mean)
        self.delivered += len(pictures)
        self.seconds += time.perf_counter() - start
        self.cpu_seconds += time.process_time() - cpu

    def _picture(self, row: int) -> np.ndarray:
        """One picture, read instead of mapped: mapped pages would count as memory in use."""
        reference: Any = self.reference
        size = int(np.prod(reference.shape[1:]))
        flat = np.fromfile(reference.filename, np.uint8, size, offset=reference.offset + row * size)
        return flat.reshape(reference.shape[1:])


class Spent:
    """CPU seconds spent in each step of the PyAV reader, by wrapping its methods; `feed` includes `read`."""

    def __init__(self, pyav_reader: Any) -> None:
        from stsimdiff_cli.video.decoding import Decoding
        from stsimdiff_cli.video.orientation import Orientation

        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        for owner, step in (
            (Decoding, "feed"),
            (Decoding, "_read"),
            (Decoding, "restart"),
            (pyav_reader, "to_rgb"),
            (Orientation, "apply"),
        ):
            setattr(owner, step, self._timed(getattr(owner, step), step.strip("_")))

    def _timed(self, function: Any, step: str) -> Any:
        self.seconds[f"{step}_cpu_seconds"], self.calls[step] = 0.0, 0

        @wraps(function)
        def run(*args: Any, **named: Any) -> Any:
            start = time.process_time()
            try:
                return function(*args, **named)
            finally:
                self.seconds[f"{step}_cpu_seconds"] += time.process_time() - start
                self.calls[step] += 1

        return run


def measure(**job: Any) -> dict[str, Any]:
    """Run `child` in a new process. Of an error, return the last line."""
    command = [sys.executable, __file__, "--child", json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1][:300]}
    return json.loads(done.stdout.splitlines()[-1])


def middle(rows: list[dict[str, Any]], key: str) -> dict[str, float]:
    """Median, minimum and maximum of one figure."""
    values = [row[key] for row in rows]
    return {"median": round(statistics.median(values), 3), "from": round(min(values), 3), "to": round(max(values), 3)}


def compare(path: Path, frames: int, readers: list[str], repeats: int, folder: Path, rows: dict[str, int]) -> None:
    """Measure in rounds and print a line for each reader. Readers that fail in the first round are left out."""
    job = {"path": str(path), "frames": frames, "reference": str(folder / f"{path.stem}.npy"), "rows": rows}
    rounds: list[dict[str, Any]] = []
    able = readers
    for _ in range(repeats):
        rounds.append({reader: measure(reader=reader, **job) for reader in able})
        able = [reader for reader in able if "error" not in rounds[0][reader]]
    for reader in readers:
        line: dict[str, Any] = {"clip": path.stem, "frames": frames, "reader": reader}
        if reader not in able:
            print(json.dumps(line | rounds[0][reader]), flush=True)
            continue
        own = [{**r[reader], "ratio": r[reader]["seconds"] / r[able[0]]["seconds"]} for r in rounds]
        own = [
            {**r, "cpu_ratio": r["cpu_seconds"] / x[able[0]]["cpu_seconds"]} for r, x in zip(own, rounds, strict=True)
        ]
        line |= {key: middle(own, key) for key in ("seconds", "scan_seconds", "cpu_seconds")}
        line |= {f"{key}_to_{able[0]}": middle(own, key) for key in ("ratio", "cpu_ratio")}
        line |= {"peak_mb": round(max(r["peak_bytes"] for r in own) / 1e6)}
        line |= {key: min(r[key] for r in own) for key in ("delivered", "exact")}
        line |= {"largest_difference": max(r["largest_difference"] for r in own)}
        line |= {"largest_mean_difference": round(max(r["largest_mean_difference"] for r in own), 3)}
        print(json.dumps(line), flush=True)


def parts(path: Path, frames: int, repeats: int) -> None:
    """Print where PyAV's time goes, as medians over processes."""
    runs = [measure(path=str(path), frames=frames, reader="pyav", parts=True) for _ in range(repeats)]
    steps = [key for key in runs[0] if key.endswith("seconds")]
    shown = {key: middle(runs, key) for key in steps}
    print(json.dumps({"clip": path.stem, "frames": frames, "packets_decoded": runs[0]["packets"], **shown}), flush=True)


def main() -> None:
    """Render missing clips, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="folder for the clips and the frames to compare with (about 2 GB)")
    parser.add_argument("--clips", default=",".join(CLIPS), help="of " + ", ".join(CLIPS))
    parser.add_argument(
        "--readers", default="pyav,pyav:2,decord,torchcodec", help="the first is the baseline of ratios"
    )
    parser.add_argument("--frames", default="32,64,128")
    parser.add_argument("--seconds", type=int, default=600, help="length of the clips")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--parts", action="store_true", help="only print where PyAV's time goes")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(child(arguments.child)))
        return
    if arguments.folder is None:
        parser.error("--folder is needed")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    counts = [int(count) for count in arguments.frames.split(",")]

    from stsimdiff_cli.machine import describe
    from stsimdiff_cli.video import Sampling, choose_frames, scan

    print(json.dumps({**describe(), "load": os.getloadavg()}), flush=True)
    for name in arguments.clips.split(","):
        path = arguments.folder / f"{name}.mp4"
        if not path.is_file():
            make_clip(path, CLIPS[name], arguments.seconds)
        video = scan(path)
        about = {"clip": name, "bytes": path.stat().st_size, "keys": len(video.key_seconds), "open_gops": video.leading}
        if arguments.parts:
            print(json.dumps(about), flush=True)
            for count in counts:
                parts(path, count, arguments.repeats)
            continue
        indices = sorted({i for count in counts for i in choose_frames(video, Sampling(frames=count))})
        print(json.dumps(about | decode_whole(path, indices, video, arguments.folder)), flush=True)
        rows = {str(index): row for row, index in enumerate(indices)}
        for count in counts:
            compare(path, count, arguments.readers.split(","), arguments.repeats, arguments.folder, rows)


if __name__ == "__main__":
    main()
