"""How tests make the program decode in other ways than this machine suggests."""

from __future__ import annotations

from typing import Any

import pytest

from stsimdiff_cli.video.decoding import AstrayError, Decoding
from stsimdiff_cli.video.pyav_reader import PyavReader


def decode_with(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    """Let every reader of PyAV decode with so many threads."""
    begin = PyavReader.__init__
    monkeypatch.setattr(PyavReader, "__init__", lambda self, path, scan, *_, **__: begin(self, path, scan, threads))


def distrust(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """After a seek, packets from `number` on count as others than those of the scan."""
    check = Decoding._check_place

    def doubtful(self: Decoding, packet: Any) -> None:
        if self._sought and self.next > number:
            raise AstrayError
        check(self, packet)

    monkeypatch.setattr(Decoding, "_check_place", doubtful)
