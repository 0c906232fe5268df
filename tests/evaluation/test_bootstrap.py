"""Intervals by the bootstrap over videos, against plain loops and known distributions."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pytest

from stsimdiff_cli.evaluation.bootstrap import DRAWS, Bootstrap, Estimate


def quantile(values: list[float], part: float) -> float:
    place = part * (len(values) - 1)
    low = math.floor(place)
    return values[low] + (place - low) * (values[min(low + 1, len(values) - 1)] - values[low])


def test_the_bootstrap_is_that_of_a_plain_loop():
    right, asked = [1.0, 0.0, 3.0, 2.0, 0.0], [2.0, 0.0, 3.0, 5.0, 1.0]
    bootstrap = Bootstrap.over(5, 7)
    ratios = []
    for draw in bootstrap.weights.tolist():
        assert sum(draw) == 5 and all(times == int(times) >= 0 for times in draw)
        clips = [clip for clip, times in enumerate(draw) for _ in range(int(times))]
        if sum(asked[clip] for clip in clips):
            ratios.append(sum(right[clip] for clip in clips) / sum(asked[clip] for clip in clips))
    assert DRAWS > len(ratios) >= DRAWS - 20  # a draw of five times clip 1 asks nothing
    ratios.sort()
    estimate = bootstrap.percent(np.array(right), np.array(asked))
    assert (estimate.percent, estimate.low, estimate.high) == pytest.approx(
        (600 / 11, 100 * quantile(ratios, 0.025), 100 * quantile(ratios, 0.975)), abs=1e-10
    )


def test_clips_are_drawn_with_replacement():
    weights = Bootstrap.over(20, 0).weights
    assert weights.shape == (DRAWS, 20)
    assert weights.mean(0) == pytest.approx(np.ones(20), abs=0.05)
    assert weights.var() == pytest.approx(0.95, abs=0.02)  # 1 - 1/20
    assert np.corrcoef(weights.T)[0, 1] == pytest.approx(-1 / 19, abs=0.05)


def test_the_interval_of_independent_questions_is_the_binomial_one():
    right = np.repeat([1.0, 0.0], [140, 60])
    estimate = Bootstrap.over(200, 0).percent(right, np.ones(200))
    half = 1.96 * 100 * math.sqrt(0.7 * 0.3 / 200)
    assert estimate.percent == 70
    assert (estimate.low, estimate.high) == (pytest.approx(70 - half, abs=0.8), pytest.approx(70 + half, abs=0.8))


def test_more_questions_about_the_same_clips_are_no_more_certain():
    right = np.repeat([1.0, 0.0], [14, 6])
    bootstrap = Bootstrap.over(20, 0)
    once = bootstrap.percent(right, np.ones(20))
    ten_times = bootstrap.percent(10 * right, np.full(20, 10.0))
    assert asdict(ten_times) == pytest.approx(asdict(once))
    assert once.high - once.low > 30


def test_the_seed_decides_the_draws():
    one, again, other = (Bootstrap.over(9, seed).weights for seed in (1, 1, 2))
    assert (one == again).all()
    assert (one != other).any()


def test_nothing_asked_is_null():
    bootstrap = Bootstrap.over(3, 0)
    assert bootstrap.percent(np.zeros(3), np.zeros(3)) == Estimate(None, None, None)
    assert bootstrap.percent(np.zeros(3), np.ones(3)) == Estimate(0, 0, 0)


def test_draws_without_a_question_say_nothing():
    one = np.array([1.0, 0.0, 0.0])
    assert Bootstrap.over(3, 0).percent(one, one) == Estimate(100, 100, 100)
