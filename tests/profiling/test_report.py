"""The arithmetic of a report: medians, savings, totals and warnings."""

from __future__ import annotations

import pytest

from stsimdiff_cli.profiling import report
from stsimdiff_cli.profiling.cell import stage_seconds
from stsimdiff_cli.profiling.job import COLD, STAGES, TOTALS, WARM
from tests.support.profile_jobs import cell_numbers, make_job


def test_savings_are_those_of_section_5_5():
    cells = {"vanilla": cell_numbers(6.50, 4.0, 35_000_000_000), "st-simdiff": cell_numbers(4.54, 1.0, 23_900_000_000)}
    rows = [report.make_row(make_job(method=name, frames=128), cell) for name, cell in cells.items()]
    base = report.baseline_row(rows, 128)
    saved = report.savings(rows[1], base)
    assert saved == pytest.approx({"cold": 30.1538, "warm": 75.0, "peak": 31.7143}, abs=1e-4)
    assert report.savings(rows[0], base) is None
    assert report.baseline_row(rows, 64) is None
    assert report.savings(rows[1], None) is None


def test_taking_more_is_a_negative_saving():
    rows = [
        report.make_row(make_job(), cell_numbers(1.0, 1.0, 100)),
        report.make_row(make_job(method="random"), cell_numbers(1.5, 1.0, 110)),
    ]
    assert report.savings(rows[1], rows[0]) == pytest.approx({"cold": -50.0, "warm": 0.0, "peak": -10.0})


def test_spreads_are_median_minimum_and_maximum():
    spreads = report.spreads([{"decode": 3.0, "importance": None}, {"decode": 1.0, "importance": None}])
    assert spreads == {"decode": {"median": 2.0, "min": 1.0, "max": 3.0}, "importance": None}


def test_methods_with_parameters_are_numbered():
    specs = ["vanilla", "st-simdiff", "st-simdiff:tau_sim=0.7", "random:seed=1", "st-simdiff:tau_sim=0.9"]
    names = report.short_names([{"method": spec} for spec in specs + specs])
    assert list(names.values()) == ["vanilla", "st-simdiff@file", "st-simdiff 1", "random 1", "st-simdiff 2"]
    assert report.legend([{"method": spec} for spec in specs]) == [
        "st-simdiff 1: st-simdiff:tau_sim=0.7@file",
        "random 1: random:seed=1",
        "st-simdiff 2: st-simdiff:tau_sim=0.9@file",
    ]


def test_the_widest_spread_is_that_of_the_worst_row():
    calm, failed = report.make_row(make_job(), cell_numbers(1.0, 1.0, 1)), report.make_row(make_job(), {"error": "no"})
    restless = report.make_row(
        make_job(), cell_numbers(2.0, 2.0, 1) | {"repeat_seconds": [{"cold": x, "warm": 1.0} for x in (1, 2, 4)]}
    )
    assert report.widest_spread([calm, failed, restless]) == 1.5
    assert report.widest_spread([failed]) == 0.0
    assert report.remarks([calm]) == []
    assert report.remarks([calm, restless])[0].startswith("repeats differ by up to 150 %")


def test_a_video_with_fewer_frames_is_remarked_once():
    rows = [
        report.make_row(make_job(frames=9, method=name), cell_numbers(1.0, 1.0, 1)) for name in ("vanilla", "random")
    ]
    assert report.remarks(rows) == ["the video has only 4 frames, not 9."]


def test_totals_are_sums_of_their_stages():
    steps = {"scan": 1.0, "decode": 2.0, "load": 64.0, "encode": 4.0, "graph": 8.0, "communities": 16.0}
    steps |= {"merge": 2048.0, "select": 32.0, "read": 128.0, "prefill": 256.0, "answer": 512.0, "token": 1024.0}
    seconds = stage_seconds(steps)
    assert (seconds["decode"], seconds["select"], seconds["importance"]) == (3.0, 2104.0, None)
    assert seconds["cold"] == 3 + 4 + 2104 + 256 + 512
    assert seconds["warm"] == 128 + 256 + 512
    assert set(seconds) == {*STAGES, *TOTALS}
    assert set(COLD) | set(WARM) <= set(STAGES)
