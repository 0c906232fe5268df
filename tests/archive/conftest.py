"""A corpus with hostile files, and what one process makes of it. Tests must not change them."""

from __future__ import annotations

from pathlib import Path

import pytest

from stsimdiff_cli.cli.app import main
from tests.support.archives import SMALL, make_corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus") / "videos")


@pytest.fixture(scope="session")
def serial(corpus, tmp_path_factory) -> Path:
    """The folder of outputs of one process alone."""
    out = tmp_path_factory.mktemp("serial") / "kept"
    assert main(["compress", str(corpus), "-o", str(out), "--workers", "0", *SMALL]) == 1
    return out
