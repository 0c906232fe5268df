"""Worker processes: the same bytes as one process, whatever happens to the workers."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import pytest

from stsimdiff_cli.archive.job import Job
from stsimdiff_cli.archive.processes import parse_devices, plans
from stsimdiff_cli.archive.run import Options, process
from stsimdiff_cli.archive.schedule import Limit
from stsimdiff_cli.errors import RequestError
from stsimdiff_cli.ratio import parse_ratio
from stsimdiff_cli.video import Sampling
from tests.support.archives import GOOD, HOSTILE, SMALL, leftovers, outputs, rows
from tests.support.commands import run
from tests.support.deadly import Deadly

MANY = len(GOOD) + len(HOSTILE)


def deadly(corpus: Path, out: Path, options: Options, **how: str):
    """A run with a method that kills its worker at one video; checks that no other item noticed."""
    job = Job(out, sampling=Sampling(4), chosen=True, method=Deadly(**how), ratio=parse_ratio("0.3"))
    progress = process(job, [str(corpus)], options)
    status = {row["path"]: row["status"] for row in rows(out)}
    assert [path for path in GOOD if status[path] != "success"] == ([] if how.get("marker") else ["b.mkv"])
    assert leftovers(out) == []
    assert not multiprocessing.active_children()
    return progress, [row for row in rows(out) if row["path"] == "b.mkv"]


@pytest.mark.slow
@pytest.mark.parametrize("more", [("--workers", "2"), ("--workers", "1", "--decoders", "2")], ids=" ".join)
def test_workers_make_the_bytes_of_one_process(capsys, corpus, serial, tmp_path, more):
    code, _, err = run(capsys, "compress", corpus, "-o", tmp_path / "kept", *SMALL, *more)
    assert code == 1, err
    assert outputs(tmp_path / "kept") == outputs(serial)
    wanted, made = ({row["path"]: row["status"] for row in rows(out)} for out in (serial, tmp_path / "kept"))
    assert made == wanted
    assert os.getpid() not in {row["pid"] for row in rows(tmp_path / "kept") if row["status"] == "success"}
    assert leftovers(tmp_path / "kept") == []


@pytest.mark.slow
def test_an_item_whose_worker_is_killed_gets_another_attempt(corpus, tmp_path):
    marker = str(tmp_path / "marker")
    progress, (first, second) = deadly(corpus, tmp_path / "kept", Options(workers=2), marker=marker)
    assert (progress.success, progress.failed) == (len(GOOD), len(HOSTILE))
    assert (first["status"], first["stage"], first["attempt"], first["error_type"]) == (
        "failed",
        "select",
        1,
        "LostError",
    )
    assert "SIGKILL" in first["error_message"]
    assert (second["status"], second["attempt"]) == ("success", 2)


@pytest.mark.slow
def test_an_item_that_kills_every_worker_fails_and_ends_nothing(corpus, tmp_path):
    options = Options(workers=1, decoders=2)
    progress, (first, second) = deadly(corpus, tmp_path / "kept", options, what="exit")
    assert (progress.success, progress.failed) == (len(GOOD) - 1, len(HOSTILE) + 1)
    assert first["error_message"] == second["error_message"] == "The process that worked on it ended with exit code 3."


@pytest.mark.slow
def test_an_item_that_hangs_is_late(corpus, tmp_path):
    options = Options(workers=2, attempts=1, limit=Limit(times=1, least=3))
    progress, (row,) = deadly(corpus, tmp_path / "kept", options, what="hang")
    assert (progress.success, progress.failed) == (len(GOOD) - 1, len(HOSTILE) + 1)
    assert (row["status"], row["stage"], row["transient"]) == ("timeout", "select", True)


# --- How the cores are shared out -------------------------------------------------------------------------------------


@pytest.fixture
def machine(monkeypatch):
    """Sets the number of cores and the free memory."""

    def set_to(cores: int, free: int = 1 << 40):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
        monkeypatch.setattr("stsimdiff_cli.archive.processes._free_memory", lambda: free)

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return set_to


def shared(devices=("cpu",), workers=None, decoders=None, items=1000):
    return [
        (plan.device, plan.threads, plan.decoders) for plan in plans(Job(Path("x")), devices, workers, decoders, items)
    ]


def test_without_a_gpu_every_core_decodes_and_encodes(machine):
    machine(4)
    assert shared() == [("cpu", 1, 0)] * 4
    assert shared(workers=2) == [("cpu", 2, 0)] * 2
    assert shared(items=1) == [("cpu", 4, 0)]


def test_memory_limits_the_number_of_workers(machine):
    machine(64, free=3 << 30)
    assert len(shared()) == 2


def test_with_gpus_every_gpu_has_a_worker_and_the_cores_decode(machine):
    machine(16)
    assert shared(("cuda:0", "cuda:1")) == [("cuda:0", 8, 7), ("cuda:1", 8, 7)]
    assert shared(("cuda:0", "cuda:1"), workers=4, decoders=1) == [(f"cuda:{i % 2}", 4, 1) for i in range(4)]


def test_the_threads_of_a_user_count_more(machine, monkeypatch):
    machine(8)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert shared(workers=2) == [("cpu", 3, 0)] * 2


def test_devices_are_all_gpus_or_those_that_are_named(monkeypatch):
    here = ["cpu", "cuda", "cuda:0", "cuda:1"]
    monkeypatch.setattr("stsimdiff_cli.archive.processes.usable_devices", lambda: here)
    assert parse_devices(None, "auto") == parse_devices("all", "auto") == ("cuda:0", "cuda:1")
    assert parse_devices(None, "cuda:1") == ("cuda:1",)
    assert parse_devices("cuda:0, cuda:0", "auto") == ("cuda:0", "cuda:0")
    with pytest.raises(RequestError, match="'cuda:7' is not available"):
        parse_devices("cuda:7", "auto")


def test_a_worker_holds_what_its_decoders_prepare_and_one_more():
    (plan,) = plans(Job(Path("x")), ("cpu",), 1, 3, 10)
    assert plan.depth == 4
    assert replace(plan, decoders=0).depth == 1
