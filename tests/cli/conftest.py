"""A clip, its tokens and its kept tokens, made once by the commands themselves. Tests must not change these files."""

from __future__ import annotations

from pathlib import Path

import pytest

from stsimdiff_cli.cli.app import main
from tests.support.clip_factory import render


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    """A video of 24 frames."""
    return render(tmp_path_factory.mktemp("clip") / "clip.mp4", range(24))


@pytest.fixture(scope="session")
def tokens(clip, tmp_path_factory) -> Path:
    """Its tokens file of 8 frames, with all evidence."""
    path = tmp_path_factory.mktemp("tokens") / "clip.tokens.safetensors"
    assert main(["encode", str(clip), "-o", str(path), "--frames", "8", "--evidence", "saliency,keys"]) == 0
    return path


@pytest.fixture(scope="session")
def kept(tokens, tmp_path_factory) -> Path:
    """Its compressed file at ratio 0.3."""
    path = tmp_path_factory.mktemp("kept") / "clip.safetensors"
    assert main(["compress", str(tokens), "-o", str(path), "--ratio", "0.3"]) == 0
    return path
