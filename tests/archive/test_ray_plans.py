"""What is asked of a Ray cluster, and what is refused, without Ray."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from stsimdiff_cli.archive.job import Job
from stsimdiff_cli.archive.ray_pool import ray_plans
from stsimdiff_cli.errors import RequestError
from stsimdiff_cli.models.loading.runtime import Runtime
from tests.support.archives import SMALL
from tests.support.commands import refused


def shared(cpus, gpus=0, device="auto", workers=None, decoders=None, items=1000):
    ray = SimpleNamespace(cluster_resources=lambda: {"CPU": float(cpus), "GPU": float(gpus)})
    plans = ray_plans(Job(Path("x"), runtime=Runtime(device)), ray, workers, decoders, items)
    return [(plan.device, plan.decoders) for plan in plans]


def test_every_cpu_of_a_cluster_without_gpus_has_a_worker_that_decodes():
    assert shared(6) == shared(6, device="cpu", gpus=2) == [("cpu", 0)] * 6
    assert len(shared(6, items=2)) == 2


def test_every_gpu_has_a_worker_and_the_cpus_decode():
    assert shared(32, gpus=4) == [("cuda", 7)] * 4
    assert shared(200, gpus=2) == [("cuda", 8)] * 2
    assert shared(2, gpus=2) == [("cuda", 0)] * 2


@pytest.mark.parametrize(
    ("cluster", "sentence"),
    [
        ({"cpus": 4, "workers": 5}, "The cluster has 4 CPUs, and 5 workers with 0 decoders each need 5."),
        (
            {"cpus": 4, "workers": 2, "decoders": 2},
            "The cluster has 4 CPUs, and 2 workers with 2 decoders each need 6.",
        ),
        ({"cpus": 9, "gpus": 1, "workers": 2}, "The cluster has 1 GPUs, for 2 workers."),
        ({"cpus": 0}, "The cluster has 0 CPUs, and 1 workers with 0 decoders each need 1."),
        ({"cpus": 9, "device": "cuda"}, "The cluster has 0 GPUs, for 1 workers."),
    ],
)
def test_more_than_the_cluster_has_is_refused(cluster, sentence):
    with pytest.raises(RequestError) as caught:
        shared(**cluster)
    assert str(caught.value) == sentence


def test_without_ray_a_sentence_says_how_to_get_it(capsys, corpus, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    err = refused(capsys, "compress", corpus, "-o", tmp_path / "kept", "--executor", "ray", *SMALL)
    assert "pip install 'stsimdiff[ray]'" in err


@pytest.mark.parametrize("more", [("--workers", "0"), ("--devices", "cpu")], ids=" ".join)
def test_options_about_this_machine_are_not_for_a_cluster(capsys, corpus, tmp_path, more):
    err = refused(capsys, "compress", corpus, "-o", tmp_path / "kept", "--executor", "ray", *SMALL, *more)
    assert "is about this machine" in err


def test_an_unknown_executor_is_refused(capsys, corpus, tmp_path):
    assert "local, ray" in refused(capsys, "compress", corpus, "-o", tmp_path / "k", "--executor", "dask", *SMALL)
