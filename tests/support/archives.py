"""Small corpora with hostile files in them, and what a run made of one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stsimdiff_cli.storage.header import read_header
from tests.support.clip_factory import render, render_sound, truncate

ROOT = Path(__file__).parents[2]
#: The videos of a corpus that can be read: name -> numbers of its frames.
GOOD = {"a.mp4": range(12), "b.mkv": range(20, 44), "deep/c.mp4": range(50, 58), "deep/er/d.mp4": range(60, 70)}
#: What cannot be read although its name says that it is a video.
HOSTILE = ("cut.mp4", "empty.mkv", "sound.mp4", "text.webm")
#: Options that keep the work for an item small.
SMALL = ("--ratio", "0.3", "--frames", "4")
#: Kills in a row (more of them by STSIMDIFF_KILLS), and clips that are enough for them.
KILLS = int(os.environ.get("STSIMDIFF_KILLS", "3"))
CLIPS = 8 * KILLS
LONGEST = 300.0  # seconds that something may take; machines may be busy


def make_corpus(folder: Path) -> Path:
    """Four clips, one of them twice, four files that cannot be read, and files that are no videos."""
    for name, numbers in GOOD.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        render(path, numbers, size=(64, 64))
    shutil.copy(folder / "a.mp4", folder / "twin.mp4")
    truncate(Path(shutil.copy(folder / "a.mp4", folder / "cut.mp4")), 0.3)
    (folder / "empty.mkv").write_bytes(b"")
    (folder / "text.webm").write_text("not a video at all")
    render_sound(folder / "sound.mp4")
    (folder / "notes.txt").write_text("passed over by its name")
    (folder / "readme").write_text("passed over when it is opened")
    (folder / ".hidden.mp4").write_text("never looked at")
    return folder


def make_clips(folder: Path) -> Path:
    """CLIPS clips, each a frame longer than the one before, and one file that cannot be read."""
    folder.mkdir()
    for number in range(CLIPS):
        render(folder / f"{number}.mp4", range(100 * number, 100 * number + 4 + number), size=(64, 64))
    (folder / "broken.mp4").write_bytes(b"broken")
    return folder


def outputs(out: Path) -> dict[str, bytes]:
    """The files that a run wrote, by their names below the folder."""
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*.safetensors"))}


def rows(out: Path) -> list[dict[str, Any]]:
    """All whole lines about items, of all log files."""
    lines = [line for path in sorted((out / "log").glob("*.jsonl")) for line in path.read_text().splitlines()]
    return [row for line in lines if "status" in (row := json.loads(line))]


def leftovers(out: Path) -> list[Path]:
    """Temporary files that somebody forgot."""
    return [path for path in out.rglob(".*") if path.is_file()]


def items_of(out: Path) -> list[str]:
    """The id of the item of every output, as its header has it."""
    return [read_header(path).record.archive.item for path in sorted(out.rglob("*.safetensors"))]


def start(
    *args: object, stdout: Any = subprocess.DEVNULL, stderr: Any = subprocess.DEVNULL, **environment: str
) -> subprocess.Popen[bytes]:
    """The program as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "stsimdiff_cli", *map(str, args)],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=stdout,
        stderr=stderr,
    )


def until(what: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    """Wait until something is so, or the process has ended."""
    deadline = time.monotonic() + LONGEST
    while not what() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
