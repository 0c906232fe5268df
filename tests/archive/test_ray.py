"""A real Ray cluster of several nodes on this machine, whose nodes and workers are killed in the middle."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from stsimdiff_cli.archive.job import Job
from stsimdiff_cli.archive.run import RAY, Options, process
from stsimdiff_cli.ratio import parse_ratio
from stsimdiff_cli.video import Sampling
from tests.support.archives import CLIPS, GOOD, HOSTILE, LONGEST, SMALL, leftovers, outputs, rows, start, until
from tests.support.deadly import Deadly
from tests.support.ray_cluster import RayCluster

pytest.importorskip("ray", reason="needs stsimdiff[ray]")
pytestmark = pytest.mark.slow
long_form = pytest.mark.skipif(os.environ.get("STSIMDIFF_RAY") != "long", reason="long form: make test-ray")


def kill_a_worker(out: Path) -> None:
    """Kill the process that ended the last item."""
    os.kill([row["pid"] for row in rows(out) if row["status"] == "success"][-1], signal.SIGKILL)


def test_a_worker_and_a_node_that_are_killed_change_nothing(clips, whole, tmp_path):
    out = tmp_path / "kept"
    with RayCluster([1, 1]) as cluster, (tmp_path / "stdout").open("wb") as stdout:
        process = start(
            *("compress", clips, "-o", out, "--executor", "ray", "--attempts", "9", "--json", *SMALL),
            stdout=stdout,
            RAY_ADDRESS=cluster.address,
        )
        until(lambda: len(outputs(out)) > 3, process)
        kill_a_worker(out)
        until(lambda: len(outputs(out)) > 6, process)
        cluster.kill(0)
        assert process.wait(LONGEST) == 1
    assert outputs(out) == whole
    assert leftovers(out) == []
    ended = Counter(row["id"] for row in rows(out) if row["status"] == "success")
    assert len(ended) == CLIPS and set(ended.values()) == {1}
    failed = [row for row in rows(out) if row["status"] == "failed"]
    assert {row["path"] for row in failed if not row["transient"]} == {"broken.mp4"}
    assert {row["error_type"] for row in failed if row["transient"]} <= {"LostError"}
    assert (tmp_path / "stdout").read_text().count("\n") == 1, "the report alone"


@long_form
def test_a_program_that_is_killed_takes_its_workers_along_and_goes_on(clips, whole, tmp_path):
    out = tmp_path / "kept"
    with RayCluster([1, 1]) as cluster:
        command = ("compress", clips, "-o", out, "--executor", "ray", *SMALL)
        for kills in range(1, 4):
            process = start(*command, RAY_ADDRESS=cluster.address)
            until(lambda kills=kills: len(outputs(out)) > 3 * kills, process)
            process.kill()
            process.wait(LONGEST)
        assert start(*command, RAY_ADDRESS=cluster.address).wait(LONGEST) == 1
    assert outputs(out) == whole
    assert set(Counter(row["id"] for row in rows(out) if row["status"] == "success").values()) == {1}


@long_form
@pytest.mark.parametrize("what", ["kill", "exit"])
def test_an_item_that_kills_every_worker_fails_and_ends_nothing(corpus, tmp_path, monkeypatch, what):
    job = Job(tmp_path / "kept", sampling=Sampling(4), chosen=True, method=Deadly(what=what), ratio=parse_ratio("0.3"))
    with RayCluster([2, 2]) as cluster:
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        progress = process(job, [str(corpus)], Options(RAY, workers=2, decoders=1))
    assert (progress.success, progress.failed) == (len(GOOD) - 1, len(HOSTILE) + 1)
    first, second = (row for row in rows(job.out) if row["path"] == "b.mkv")
    assert first["error_message"] == second["error_message"]
    assert first["error_message"].startswith("The process that worked on it ended unexpectedly")
    assert leftovers(job.out) == []


@long_form
def test_decoders_of_the_cluster_make_the_same_bytes(corpus, serial, tmp_path):
    with RayCluster([1, 2]) as cluster:
        more = ("--executor", "ray", "--workers", "1", "--decoders", "2")
        process = start("compress", corpus, "-o", tmp_path / "kept", *SMALL, *more, RAY_ADDRESS=cluster.address)
        assert process.wait(LONGEST) == 1
    assert outputs(tmp_path / "kept") == outputs(serial)
