"""A process that has imported everything, and becomes the program by a fork: a start costs milliseconds, not seconds.

As a program it reads one JSON object a line from stdin and answers with one. `Warm` is its other end.
"""

from __future__ import annotations

import faulthandler
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Protocol


class Process(Protocol):
    """A run of the program that goes on."""

    pid: int

    def wait(self, timeout: float) -> int:
        """The exit code, or minus the signal that killed it. TimeoutError if it goes on."""


class Warm:
    """Starts runs of the program in forks of one process."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.hostile.warm"]
        self.server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()

    def start(self, args: list[str], folder: Path, environment: dict[str, str], errors: Path) -> Process:
        """Run the program in a folder; stderr and stdout go to the file `errors`."""
        request = {"args": args, "folder": str(folder), "environment": environment, "errors": str(errors)}
        return _Forked(self, self._ask(request)["pid"])

    def close(self) -> None:
        """End the server."""
        self.server.communicate()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self.server.stdin is not None
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.server.stdout is not None
        return json.loads(self.server.stdout.readline())


class _Forked:
    def __init__(self, warm: Warm, pid: int) -> None:
        self.warm, self.pid = warm, pid

    def wait(self, timeout: float) -> int:
        code = self.warm._ask({"wait": self.pid, "timeout": timeout})["code"]
        if code is None:
            raise TimeoutError
        return code


class Cold:
    """Starts runs of the program as a shell does, with the interface of Warm."""

    def start(self, args: list[str], folder: Path, environment: dict[str, str], errors: Path) -> Process:
        """As Warm.start."""
        with errors.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "stsimdiff_cli", *args],
                cwd=folder,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return _Started(process)


class _Started:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process, self.pid = process, process.pid

    def wait(self, timeout: float) -> int:
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError from error


# --- the server -----------------------------------------------------------------------------------------------------


def serve() -> None:
    """Answer requests until stdin ends. In a fork, this does not return: it is the program."""
    import av  # noqa: F401
    import matplotlib.figure  # noqa: F401
    import torch  # noqa: F401
    import transformers.modeling_utils
    import transformers.models.qwen2_5_vl.modeling_qwen2_5_vl  # noqa: F401

    from stsimdiff_cli.cli import app  # noqa: F401

    answers = os.fdopen(os.dup(1), "w")
    print("{}", file=answers, flush=True)
    for line in iter(sys.stdin.readline, ""):
        request = json.loads(line)
        if "wait" in request:
            answer = {"code": _wait(request["wait"], request["timeout"])}
        else:
            pid = os.fork()
            if pid == 0:
                answers.close()
                _become(request)
            answer = {"pid": pid}
        print(json.dumps(answer), file=answers, flush=True)


def _become(request: dict[str, Any]) -> None:
    os.setsid()
    os.chdir(request["folder"])
    os.environ.update(request["environment"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    file = os.open(request["errors"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(nothing, 0)
    os.dup2(file, 1)
    os.dup2(file, 2)
    faulthandler.enable(2)
    sys.argv = ["stsimdiff", *request["args"]]

    from stsimdiff_cli.__main__ import run

    run()  # SystemExit: the process ends as any other does


def _wait(pid: int, timeout: float) -> int | None:
    end = time.monotonic() + timeout
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            return None
        time.sleep(0.005)


if __name__ == "__main__":
    serve()
