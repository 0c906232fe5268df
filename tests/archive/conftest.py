"""What several tests read: a corpus with hostile files, clips to kill at, and what one process makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from stsimdiff_cli.cli.app import main
from tests.support.archives import SMALL, make_clips, make_corpus, outputs


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus") / "videos")


@pytest.fixture(scope="session")
def serial(corpus, tmp_path_factory) -> Path:
    """The folder of outputs of one process alone."""
    out = tmp_path_factory.mktemp("serial") / "kept"
    assert main(["compress", str(corpus), "-o", str(out), "--workers", "0", *SMALL]) == 1
    return out


@pytest.fixture(scope="session")
def clips(tmp_path_factory) -> Path:
    return make_clips(tmp_path_factory.mktemp("clips") / "videos")


@pytest.fixture(scope="session")
def whole(clips, tmp_path_factory) -> dict[str, bytes]:
    """The outputs of one process that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole") / "kept"
    assert main(["compress", str(clips), "-o", str(out), "--workers", "0", *SMALL]) == 1
    return outputs(out)
