"""The environments that cost little; `python -m tests.hostile --only environments` tries all."""

from __future__ import annotations

import pytest

from tests.hostile.environments import CASES, prepare, trial

#: One case in so many of those that import nothing heavy.
EVERY = 12
#: Cases that once failed.
FELL = ("a pipe is asked about",)
SHORT = [*[case for case in CASES if case.light][::EVERY], *[case for case in CASES if case.name in FELL]]


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("environments"))


@pytest.mark.slow
@pytest.mark.parametrize("case", SHORT, ids=lambda case: case.name)
def test_the_program_stays_polite(case, given):
    assert trial(case, given).failure is None


def test_the_names_of_cases_are_their_own():
    assert len({case.name for case in CASES}) == len(CASES)
