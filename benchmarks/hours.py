"""A long recording, encoded in segments while it is killed twice, compressed, and asked about an event late in it.

    python -m benchmarks.hours [--hours 10] [--ratio 0.05] [--folder build/hours] [--output REPORT]

The recording is rendered at a frame a second: clips of 32 frames after each other, each with an event of its own. The
commands run in processes of their own, so that their memory is their own; encode gets SIGKILL at a third and at two
thirds of the segments. Questions are asked about the clips that begin at seven tenths of the recording, each with the
times of its clip: of what was kept segment by segment, of what one file keeps of it all, and of all tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks.hours_tables import FORMAT
from stsimdiff_cli import pipeline
from stsimdiff_cli.machine import describe
from stsimdiff_cli.models.families import open_family
from stsimdiff_cli.models.inference.model_cache import ModelCache
from stsimdiff_cli.models.loading.runtime import Runtime
from stsimdiff_cli.recordings.encoding import SLOTS
from stsimdiff_cli.storage.atomic import save_json
from stsimdiff_cli.storage.reading import open_stored
from stsimdiff_cli.storage.segment_index import is_segments, read_index
from stsimdiff_cli.storage.stretch import Stretch
from stsimdiff_cli.synthetic.clips import Clip, make_clip
from stsimdiff_cli.synthetic.questions import GROUPS

MODEL, FRAMES, ASKED = "tiny", 32, 40
STEPS = ("open", "read", "prefill", "answer")


def clip_of(number: int) -> Clip:
    """The clip that is shown from second 32 x `number` on; its objects are held out from training."""
    return make_clip(900_000 + number, "still", "heldout", FRAMES)


def render(path: Path, clips: int) -> None:
    """Write the recording, clip by clip."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=1)
        stream.height, stream.width = clip_of(0).frames.shape[1:3]
        stream.pix_fmt, stream.options = "yuv420p", {"crf": "12", "threads": "1"}
        for number in range(clips):
            for picture in clip_of(number).frames:
                out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        out.mux(stream.encode(None))


def run(folder: Path | None, stop_at: int | None, *args: str) -> dict[str, Any]:
    """Run a command; with `stop_at`, until `folder` has so many segments, and then kill it. What it took."""
    began = time.monotonic()
    child = subprocess.Popen([sys.executable, "-m", "stsimdiff_cli", *args], stdout=subprocess.PIPE, text=True)
    while stop_at is not None and child.poll() is None:
        if folder is not None and is_segments(folder) and len(read_index(folder).segments) >= stop_at:
            child.send_signal(signal.SIGKILL)
            break
        time.sleep(0.05)
    text = child.stdout.read() if child.stdout else ""
    result = json.loads(text) if text.strip() else None
    _, status, usage = os.wait4(child.pid, 0)
    return {
        "killed": os.WIFSIGNALED(status),
        "seconds": time.monotonic() - began,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * 1024,
        "result": result and {name: value for name, value in result.items() if name != "output"},
    }


def ask(file: Path, first: int) -> list[dict[str, Any]]:
    """Ask about some clips, each a part of a file's time: the first question about what happens is timed.

    The model stays loaded.
    """
    runtime, context, rows = Runtime(device="cpu"), pipeline.Context(ModelCache()), []
    for number in range(first, first + ASKED):
        clip = clip_of(number)
        question = next(one for one in clip.questions if one.kind in GROUPS["event"])
        times = Stretch(float(FRAMES * number), float(FRAMES * number + FRAMES - 1))
        marks = [time.perf_counter()]
        stored = open_stored(file)
        marks.append(time.perf_counter())
        part = stored.part(times.slots(stored.grid))
        marks.append(time.perf_counter())
        conversation = pipeline.converse(part, runtime, context=context)
        marks.append(time.perf_counter())
        conversation.ask(question.text)
        marks.append(time.perf_counter())
        seconds = dict(zip(STEPS, np.diff(marks).tolist(), strict=True))
        answers = conversation.ask_all([one.text for one in clip.questions])
        right = [
            {"kind": one.kind, "event": clip.kind, "right": answer.text == one.answer}
            for one, answer in zip(clip.questions, answers, strict=True)
        ]
        rows.append({"from": times.start, "seconds": seconds, "questions": right})
    return rows


def measure(work: Path, clips: int, ratio: str) -> dict[str, Any]:
    """Everything that the report says."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    video, tape, kept, one = work / "recording.mkv", work / "tape", work / "kept", work / "one.safetensors"
    render(video, clips)
    segments = -(-FRAMES * clips // SLOTS)
    encode = ("encode", str(video), "-o", str(tape), "--model", MODEL, "--fps", "1", "--append", "--json")
    runs = [run(tape, stop, *encode) for stop in (segments // 3, 2 * segments // 3, None)]
    compress = run(kept, None, "compress", str(tape), "-o", str(kept), "--ratio", ratio, "--append", "--json")
    at_once = run(None, None, "compress", str(tape), "-o", str(one), "--ratio", ratio, "--json")
    return {
        "format": FORMAT,
        "model": MODEL,
        "fingerprint": open_family(MODEL).checkpoint.fingerprint,
        "machine": describe(),
        "clips": clips,
        "slots": FRAMES * clips,
        "ratio": ratio,
        "video_bytes": video.stat().st_size,
        "encode": runs,
        "compress": compress,
        "compress_at_once": at_once,
        "answers": ask(kept, clips * 7 // 10),
        "answers_from_one": ask(one, clips * 7 // 10),
        "answers_from_all": ask(tape, clips * 7 // 10),
    }


def main() -> None:
    """Parse the arguments, measure, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=10.0)
    parser.add_argument("--ratio", default="0.05")
    parser.add_argument("--folder", type=Path, default=Path("build/hours"))
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    report = measure(given.folder, round(given.hours * 3600 / FRAMES), given.ratio)
    if given.output:
        save_json(given.output, report, indent=1)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
