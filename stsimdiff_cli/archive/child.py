"""What every process below this program does first: end when its parent ends, and leave nothing half-written."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import wait
from types import FrameType
from typing import Any


def context() -> Any:
    """How processes are started. On Linux they are forked from a server that has imported torch, once for all.

    Nothing has run in that server, so there is no GPU and no thread that a fork would break. Elsewhere every process
    starts anew.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["stsimdiff_cli.archive.preload"])
    return made


def settle(threads: int = 1) -> None:
    """Set this process up: stopping is its parent's decision, and torch has so many threads.

    What libraries print goes to stderr, because stdout is for results.
    """
    for name in ("SIGINT", "SIGHUP"):  # a terminal sends them to parent and children alike
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)
    with suppress(OSError, AttributeError, ValueError):
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    threading.Thread(target=_watch_parent, name="watch parent", daemon=True).start()
    import torch

    torch.set_num_threads(threads)


def how_it_ended(code: int | None) -> str:
    """The exit code of a process, to end a sentence with."""
    if code is None:
        return "does not answer"
    if code >= 0:
        return f"ended with exit code {code}"
    with suppress(ValueError):
        return f"was killed by {signal.Signals(-code).name}" + (" (out of memory?)" if code == -9 else "")
    return f"was killed by signal {-code}"


def _end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    end_now(128 + number)


def _watch_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        end_now(1)


def end_now(code: int) -> None:
    """End without unwinding, but remove temporary files."""
    atomic = sys.modules.get("stsimdiff_cli.storage.atomic")
    with suppress(Exception):
        if atomic is not None:
            atomic.remove_temporaries()
    os._exit(code)
