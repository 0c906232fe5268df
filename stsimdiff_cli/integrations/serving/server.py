"""vLLM's server as a process: a start that fails is an error, and whatever ends this process ends that too."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence

from ...errors import ModelError, RequestError
from .log import Log

#: What may be tried where memory is short.
_LESS = 'Ask for less: --vllm "--gpu-memory-utilization 0.5 --max-model-len 8192" (also without a GPU).'
_MORE = "--verbose shows all that vLLM writes."


def require_address(host: str, port: int) -> None:
    """RequestError if nobody can listen there."""
    try:
        ((family, kind, protocol, _, address), *_) = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError as error:
        why = f"Nobody can listen at {host}, port {port}: {error.strerror or error}."
        raise RequestError(why, "Give another --port or --host, or end the program that uses it.") from None


def run_server(command: Sequence[str], environment: dict[str, str], ready: Callable[[], None], live: bool) -> None:
    """Run vLLM's server until it ends; `ready` is called when it answers.

    Its stdin is a pipe that nothing is written to: it closes when this process ends (see api_server.py).
    ModelError or RequestError if it does not start, or ends by itself. With `live`, all that it writes is shown.
    """
    end, begin = os.pipe()
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=begin, stderr=begin) as process:
        os.close(begin)
        log = Log(end, 2, live)
        try:
            while process.poll() is None and not log.ready.wait(0.2):
                pass
            if log.ready.is_set():
                ready()
            code = process.wait()
        except BaseException:  # a signal ends this process
            log.ready.clear()  # what vLLM writes about its own end is shown only if `live`
            process.terminate()
            raise
    if log.ready.is_set():
        if code:
            raise ModelError(f"vLLM has ended by itself, with code {code}.", "What it wrote above may say why.")
        return
    raise _failure(code, log.reason())


def _failure(code: int, reason: str | None) -> ModelError | RequestError:
    """Why vLLM did not start."""
    if reason is None and code < 0:
        name = signal.Signals(-code).name
        return ModelError(f"vLLM did not start: {name} ended it, as it does when memory is used up.", _LESS)
    if code == 2 and reason:
        return RequestError(
            f"vLLM refuses its options: {reason}.", "See --vllm, and vLLM's own help: vllm serve --help"
        )
    reason = reason or f"it ended with code {code}"
    return ModelError(f"vLLM did not start: {reason}.", _LESS if "memory" in reason.lower() else _MORE)
