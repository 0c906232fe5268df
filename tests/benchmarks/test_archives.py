"""The benchmark of archives: its corpus and its tables."""

from __future__ import annotations

from benchmarks import archive_tables
from benchmarks.archives import HOSTILE, make_corpus
from stsimdiff_cli.errors import StsimdiffError
from stsimdiff_cli.video import Sampling, open_stream

WAY = {"as_serial": True, "outputs": 38, "done_twice": 0, "transient_failures": 3, "left_over": 0}
COST = {"own_cpu_seconds": 4.0, "seconds": 9.0, "done_before": 38}
WORK = {"clips": 200, "decode_cpu_seconds": 0.4, "encode_cpu_seconds": 2.0, "whole_cpu_seconds": 2.5}
REPORT = {
    "format": archive_tables.FORMATS[0],
    "clips": 40,
    "hostile": 2,
    "ways": {
        "serial": {**WAY, "as_serial": None, "failed_as_hostile": True},
        "local": {**WAY, **COST, "own_cpu_seconds": 4.2, "failed_as_hostile": False},
        "again": COST,
        "finished": {**COST, "own_cpu_seconds": 6.0},
        "work": {**WORK, "whole_to_sum": 1.04, "two_workers_to_larger": 0.62},
    },
}


def test_one_in_twenty_is_hostile_and_the_others_are_not(tmp_path):
    hostile = make_corpus(tmp_path, 5 * HOSTILE)
    assert len(hostile) == 5
    bad = set()
    for path in tmp_path.rglob("*.mp4"):
        try:
            list(open_stream(path, Sampling(4)).chunks)
        except StsimdiffError:
            bad.add(path.relative_to(tmp_path).as_posix())
    assert bad == set(hostile)


def test_the_tables_show_what_is_in_the_report():
    ways, cost = archive_tables.tables(REPORT)
    assert ways.rows == [
        ["one process", "(reference)", "38", "0", "3", "0", "yes"],
        ["two worker processes", "yes", "38", "0", "3", "0", "NO"],
    ]
    assert [row[1] for row in cost.rows] == [
        "4.0 s of CPU", "6.0 s of CPU", "5.0 ms of CPU", "2.0 ms of CPU", "10.0 ms of CPU", "12.5 ms of CPU",
        "1.04", "0.62",
    ]  # fmt: skip
