"""Every benchmark starts: what it imports exists, and it says what it takes."""

import importlib
import pkgutil
import sys

import pytest

import benchmarks

NAMES = sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__))
WITHOUT_ARGUMENTS = {"parameters", "tables"}  # they would run


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_starts(name, monkeypatch, capsys):
    monkeypatch.syspath_prepend(benchmarks.__path__[0])  # as for a script of that folder
    module = importlib.import_module(f"benchmarks.{name}")
    if not hasattr(module, "main") or name in WITHOUT_ARGUMENTS:
        return
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as stopped:
        module.main()
    assert stopped.value.code == 0
    assert "usage:" in capsys.readouterr().out
