"""Runs that are killed or stopped at random moments, and go on: nothing is lost, half-written or done twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from stsimdiff_cli.archive.status import status_of
from tests.support.archives import (
    CLIPS,
    GOOD,
    HOSTILE,
    KILLS,
    LONGEST,
    ROOT,
    SMALL,
    items_of,
    leftovers,
    outputs,
    rows,
    start,
    until,
)

pytestmark = pytest.mark.slow


def processes_of(out: Path) -> list[int]:
    """The processes that were started for this folder, by what their command lines and pipes tell: pids in its log."""
    found = []
    for pid in {row["pid"] for row in rows(out) if "pid" in row}:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            continue
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z":
            found.append(pid)
    return found


@pytest.mark.parametrize("seed", [1])
def test_runs_that_are_killed_end_as_one_that_was_not(clips, whole, tmp_path, seed):
    dice, out = random.Random(seed), tmp_path / "kept"
    made: dict[str, int] = {}  # output -> its inode when it was first seen
    command = ("compress", clips, "-o", out, "--workers", "2", *SMALL)
    for _ in range(KILLS):
        before = len(outputs(out))
        process = start(*command)
        until(lambda before=before: len(outputs(out)) > before, process)
        time.sleep(dice.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        process.wait(LONGEST)
        deadline = time.monotonic() + LONGEST
        while processes_of(out):  # workers end by themselves
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for name, data in outputs(out).items():
            assert data == whole[name], "what is there is whole"
            inode = (out / name).stat().st_ino
            assert made.setdefault(name, inode) == inode, "what was there is not done again"
    state = status_of(out)
    assert (state.items, len(state.rows) + state.counts["left"]) == (CLIPS + 1, CLIPS + 1)
    assert start(*command).wait(LONGEST) == 1
    assert all((out / name).stat().st_ino == inode for name, inode in made.items())
    assert outputs(out) == whole
    assert leftovers(out) == []
    assert len(set(items_of(out))) == CLIPS
    ended = Counter(row["id"] for row in rows(out) if row["status"] == "success")
    assert len(ended) == CLIPS and set(ended.values()) == {1}
    assert {row["path"] for row in rows(out) if row["status"] == "failed"} == {"broken.mp4"}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_is_clean_and_says_how_to_go_on(clips, whole, tmp_path, number, code):
    out = tmp_path / "kept"
    with (tmp_path / "stderr").open("wb") as stderr:
        process = start("compress", clips, "-o", out, "--workers", "2", *SMALL, stderr=stderr)
        until(lambda: outputs(out), process)
        process.send_signal(number)
        assert process.wait(LONGEST) == code
    said = (tmp_path / "stderr").read_text()
    assert f"of {CLIPS + 1} items are done and kept. The same command goes on with the rest." in said
    assert "interrupted" in said and "Traceback" not in said
    assert leftovers(out) == [] and processes_of(out) == []
    done = outputs(out)
    assert done and all(data == whole[name] for name, data in done.items())


def test_two_starts_at_the_same_time_do_no_harm(clips, whole, tmp_path):
    out = tmp_path / "kept"
    both = [start("compress", clips, "-o", out, "--workers", "1", *SMALL) for _ in range(2)]
    assert [process.wait(LONGEST) for process in both] == [1, 1]
    assert outputs(out) == whole
    assert leftovers(out) == []


def test_an_item_that_ends_the_program_is_given_up_and_the_rest_is_done(corpus, tmp_path):
    """With --workers 0 the item is worked on by the program's own process."""
    out = tmp_path / "kept"
    codes, done = [], []
    for _ in range(4):
        codes.append(subprocess.run([sys.executable, "-m", "tests.support.deadly", corpus, out], cwd=ROOT).returncode)
        done.append(len(outputs(out)))
    # The longest one comes first and ends the program; then it comes last, at last not at all.
    assert codes == [-signal.SIGKILL] * 3 + [len(HOSTILE) + 1]
    assert done == [0, len(GOOD) - 1, len(GOOD) - 1, len(GOOD) - 1]
    (row,) = (row for row in rows(out) if row["path"] == "b.mkv")
    assert row["error_message"] == "The program ended 3 times while it worked on it." and not row["transient"]
