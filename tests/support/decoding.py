"""How tests make the program decode in other ways than this machine suggests."""

from __future__ import annotations

import pytest

from stsimdiff_cli.video.pyav_reader import PyavReader


def decode_with(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    """Let every reader of PyAV decode with so many threads."""
    begin = PyavReader.__init__
    monkeypatch.setattr(PyavReader, "__init__", lambda self, path, scan, *_, **__: begin(self, path, scan, threads))
