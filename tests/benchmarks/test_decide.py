"""benchmarks/decide.py: a lead that is there is found, one that is chance is not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import permutation_test

from benchmarks import decide


def report(rng: np.random.Generator, chances: dict[str, float], seeds: int = 30) -> dict:
    """A report about two rungs in which every question is answered rightly with a method's chance."""
    sittings = []
    for rung, seed in itertools.product(("still", "pan"), range(seeds)):
        answers = [
            [method, "0.1", {str(i): "" for i in range(10) if rng.random() > chance}]
            for method, chance in chances.items()
        ]
        sittings.append(
            {"name": f"{rung} {seed}: flash", "questions": [["flash", "?", "!"]] * 10, "other_answers": answers}
        )
    return {"sittings": sittings, "labels": {name: f"the {name}" for name in chances}}


def test_a_lead_is_found_and_chance_is_not():
    found = decide.verdicts(
        report(np.random.default_rng(0), {"mine": 0.9, "same": 0.9, "worse": 0.6, "best": 0.99}), "mine"
    )
    signs = {name: {v.sign for v in found if v.other == name} for name in ("same", "worse", "best")}
    assert signs == {"same": {0}, "worse": {1}, "best": {-1}}
    assert len(found) == 9 and {v.rung for v in found} == {"still", "pan", "all"}
    whole = next(v for v in found if (v.other, v.rung) == ("worse", "all"))
    assert whole.percent == pytest.approx(30, abs=5)
    (table,) = decide.tables(report(np.random.default_rng(0), {"mine": 0.9, "worse": 0.6}), "mine")
    assert table.rows[0][0] == "the worse" and table.rows[0][1].endswith("▲, 2 / 0")


def test_equal_methods_are_told_apart_no_more_often_than_the_level_says():
    wrong = sum(
        any(v.sign for v in decide.verdicts(report(np.random.default_rng(s), {"a": 0.8, "b": 0.8, "c": 0.8}, 12), "a"))
        for s in range(25)
    )
    assert wrong <= 4  # 1.25 expected


@pytest.mark.parametrize(
    "difference", [(3, 1, -1, 2, 2, 0, 4), (0, 0, -5, 0), (1, -1, 1, -1), (2, 2, 2, -7, 1, 1, 1, 3)]
)
def test_p_is_that_of_scipy_and_of_all_flips(difference):
    difference = np.array(difference, float)
    some = difference[difference != 0]
    flips = np.array(list(itertools.product([-1, 1], repeat=len(some))))
    by_hand = (np.abs(flips @ some) >= abs(some.sum())).mean()
    assert decide.sign_flip_p(difference) == pytest.approx(by_hand)
    if len(some) > 1:
        test = permutation_test(
            (some,), lambda x, axis: x.sum(axis), permutation_type="samples", n_resamples=np.inf, vectorized=True
        )
        assert decide.sign_flip_p(difference) == pytest.approx(test.pvalue)


def test_p_of_nothing_is_one():
    assert decide.sign_flip_p(np.zeros(4)) == 1


def test_holm_rejects_step_by_step():
    assert decide.holm([0.01, 0.04, 0.03, 0.005]) == [1, 0, 0, 1]
    assert decide.holm([0.001, 0.002]) == [1, 1]
    assert decide.holm([0.03, 0.04]) == [0, 0]
    assert decide.holm([]) == []
