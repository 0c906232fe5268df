"""--shard i/n, and what a SLURM array says."""

from __future__ import annotations

import pytest

from stsimdiff_cli.archive.shards import ALL, Shard, parse_shard
from stsimdiff_cli.errors import RequestError

VARIABLES = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT")


@pytest.fixture(autouse=True)
def slurm(monkeypatch):
    """Sets the variables of an array task; None leaves one out."""

    def set_to(*values):
        for name, value in zip(VARIABLES, values, strict=True):
            monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)

    set_to(None, None, None)
    return set_to


def test_a_shard_is_read():
    assert parse_shard("2/5") == Shard(2, 5)
    assert parse_shard(None) == ALL


@pytest.mark.parametrize("text", ["", "3", "4/4", "-1/4", "a/b", "1/0", "1.0/2", "0/1/2"])
def test_what_is_not_a_shard_is_refused(text):
    with pytest.raises(RequestError) as caught:
        parse_shard(text)
    assert "--shard 0/4" in caught.value.hint


@pytest.mark.parametrize(
    ("task", "first", "count", "shard"), [("0", "0", "4", "0/4"), ("3", "1", "3", "2/3"), ("7", None, "8", "7/8")]
)
def test_a_task_of_a_slurm_array_is_a_shard(slurm, task, first, count, shard):
    slurm(task, first, count)
    assert str(parse_shard(None)) == shard
    assert parse_shard("1/2") == Shard(1, 2), "what is asked for counts more"
    assert parse_shard("all") == ALL


@pytest.mark.parametrize("values", [("3", "0", None), ("x", "0", "4"), ("7", "3", "2")])
def test_an_array_that_does_not_tell_the_shard_is_refused(slurm, values):
    slurm(*values)
    with pytest.raises(RequestError, match="SLURM") as caught:
        parse_shard(None)
    assert "--shard" in caught.value.hint
