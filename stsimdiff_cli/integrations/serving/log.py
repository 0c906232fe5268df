"""What vLLM's processes write: kept while they start, so that a failure can be told in one sentence, then passed on."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

#: A line that vLLM's server writes when it answers (door.py).
READY = "stsimdiff: ready"
#: How a traceback ends, whatever vLLM puts before it; and how vLLM's command refuses an option.
_RAISED = re.compile(r"(?:^|\s)(?:[\w.]+\.)?([A-Z]\w*(?:Error|Exception)): (.*\S)")
_REFUSED = re.compile(r"^[^\s:][^:]*: error: (.*\S)")
#: An error that only says that there was another one.
_EMPTY = "See root cause above"
_LONGEST = 400  # characters of vLLM's words that are shown


class Log:
    """Reads a pipe to its end in a thread of its own."""

    def __init__(self, source: int, sink: int, live: bool = False) -> None:
        """Two file descriptors. With `live`, `sink` gets everything at once; otherwise what comes after `ready`."""
        self.ready = threading.Event()
        self._source, self._sink, self._live = source, sink, live
        self._kept: list[str] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with os.fdopen(self._source, errors="replace") as source:
            for line in source:
                if line.rstrip().endswith(READY):  # vLLM writes the name of the process before each line
                    self.ready.set()
                    continue
                if not self.ready.is_set():
                    self._kept.append(line)
                if self._live or self.ready.is_set():
                    with suppress(OSError):  # nobody listens any more; vLLM goes on
                        os.write(self._sink, line.encode())

    def reason(self, patience: float = 2.0) -> str | None:
        """Why the start failed, in vLLM's words without a full stop; None if it wrote nothing of the kind.

        Waits so many seconds for what is still to be read.
        """
        self._thread.join(patience)
        lines = list(self._kept)
        for pattern in (_REFUSED, _RAISED):
            found = [match.groups()[-1] for match in map(pattern.search, lines) if match]
            if found:
                first = next((words for words in found if _EMPTY not in words), found[0])
                return first.rstrip(".") if len(first) <= _LONGEST else f"{first[:_LONGEST].rsplit(' ', 1)[0]} .."
        return None


@contextmanager
def kept_stderr(live: bool = False) -> Iterator[Log]:
    """Within the block, what this process and its children write to stderr is kept; afterwards it is passed on.

    It is the system's stderr that is replaced, because children inherit that.
    """
    sys.stderr.flush()
    end, begin = os.pipe()
    own = os.dup(2)
    log = Log(end, own, live)
    os.dup2(begin, 2)
    os.close(begin)
    try:
        yield log
    finally:
        sys.stderr.flush()
        os.dup2(own, 2)
        log.ready.set()
