"""Signals end the program in an orderly way, once, and are handled as before when it has ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from stsimdiff_cli.cli import app, stops
from stsimdiff_cli.cli.app import main


@pytest.fixture
def heeded():
    """No signal is ignored, even if the tests run under `nohup` or in the background."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in stops.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", stops.SIGNALS)
def test_a_signal_ends_a_command_with_its_code(number, monkeypatch, capsys, heeded):
    before = [signal.getsignal(each) for each in (*stops.SIGNALS, signal.SIGALRM)]
    monkeypatch.setattr(app, "app", lambda **_: signal.raise_signal(number))
    assert main([]) == 128 + number
    assert capsys.readouterr().err == "interrupted\n"
    assert [signal.getsignal(each) for each in (*stops.SIGNALS, signal.SIGALRM)] == before


def test_a_signal_that_is_ignored_stays_ignored(monkeypatch):
    monkeypatch.setattr(app, "app", lambda **_: signal.raise_signal(signal.SIGHUP))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert main([]) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_signal_does_not_disturb_the_way_out(heeded):
    steps = []
    with pytest.raises(stops.Stopped), stops.stoppable():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            steps.append("closed")
    assert steps == ["closed"]


def test_a_stop_that_was_swallowed_comes_again(heeded):
    class Deaf:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)  # Python drops what is raised here

    with pytest.raises(stops.Stopped), stops.stoppable():
        Deaf()
        threading.Event().wait(5)


def test_in_another_thread_nothing_is_handled():
    codes = []
    thread = threading.Thread(target=lambda: codes.append(main(["--version"])))
    thread.start()
    thread.join()
    assert codes == [0]


def test_the_entry_point_imports_nothing_heavy_before_signals_are_handled():
    code = (
        "import sys; before = set(sys.modules); import stsimdiff_cli.__main__, stsimdiff_cli.cli.stops;"
        "print(*sorted(set(sys.modules) - before))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, env=environment)
    assert not {"typing", "typer", "rich", "torch", "pathlib"} & set(done.stdout.split()), done.stdout + done.stderr
