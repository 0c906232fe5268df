"""Every method with every family of the table, from a video file to an answer."""

from __future__ import annotations

from stsimdiff_cli.methods import METHODS
from tests.support.family_checks import every_method_keeps_its_budget


def test_every_method_keeps_exactly_its_budget(family, tmp_path):
    done = every_method_keeps_its_budget(family, tmp_path)
    assert set(done) == {name for name in METHODS if not METHODS.load(name).keeps_all}
