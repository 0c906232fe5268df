"""vLLM's command, in a process that ends with the one that started it.

    stsimdiff serve --starts--> vLLM's API server --starts--> vLLM's engine

A process that is killed by SIGKILL cannot pass that on, so each of the others watches its parent.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from multiprocessing.connection import wait

#: Seconds that a process has for an orderly end once its parent has ended. While vLLM loads it takes no SIGTERM.
GRACE = 10.0


def end_with_parent() -> None:
    """From here on this process gets SIGTERM when its parent ends, however that ends, and is gone GRACE seconds later.

    The parent is known by a pipe whose other end it holds: that of multiprocessing, or else this process's stdin.
    """
    parent = multiprocessing.parent_process()
    end = parent.sentinel if parent else sys.stdin.fileno()
    threading.Thread(target=_watch, args=(end,), name="watch parent", daemon=True).start()


def _watch(end: int) -> None:
    wait([end])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)


def main() -> None:
    """Run vLLM's command line; stdin is the pipe of `end_with_parent`."""
    end_with_parent()
    from vllm.entrypoints.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
