"""Damaged checkpoints and odd requests in short, and what fell once, by its number. `make test-hostile` runs many."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile.checkpoints import CHECKPOINT, DAMAGES, QUESTION, trial, trials
from tests.hostile.trials import tally

#: Numbers of trials that failed once.
FELL = (60, 321, 372, 643, 790, 841, 2218, 7176)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("hostile")


def test_a_few_damaged_checkpoints_and_odd_questions_are_sentences(folder):
    done = list(trials(1000, folder, 24))
    assert [one for one in done if one.failure] == []
    assert tally(done) == {CHECKPOINT: (16, 0), QUESTION: (8, 0)}


@pytest.mark.parametrize("number", FELL)
def test_what_fell_once_stands(number, folder):
    assert trial(number, folder).failure is None


def test_the_same_number_is_the_same_trial(folder):
    assert trial(7, folder) == trial(7, folder)
    assert len({name for name, _ in DAMAGES}) > 12
