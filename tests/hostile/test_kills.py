"""Some stops of the program; `python -m tests.hostile --only kills` makes hundreds."""

from __future__ import annotations

import pytest

from tests.hostile.kills import trials

#: Seeds of warm starts that cover the four signals and, once each, what failed before it was mended.
FIRST, COUNT = 0, 6


@pytest.mark.slow
def test_a_stopped_run_leaves_whole_files_and_nothing_else(tmp_path):
    assert [f"{trial.name}: {trial.failure}" for trial in trials(FIRST, tmp_path, COUNT) if trial.failure] == []
