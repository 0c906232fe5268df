"""Some stops of the program; `python -m tests.hostile --only kills` makes hundreds."""

from __future__ import annotations

import pytest

from tests.hostile.kills import Setup, trial

#: Warm starts of encode and compress with each signal: these seeds cost little. Add those of failures that were mended.
SEEDS = (10, 14, 37, 43)


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    setup = Setup(tmp_path_factory.mktemp("kills") / "kills")
    yield setup
    setup.close()


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_stopped_run_leaves_whole_files_and_nothing_else(seed, setup):
    assert trial(seed, setup).failure is None
