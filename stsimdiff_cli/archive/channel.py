"""How tasks come to a worker, and messages go back."""

from __future__ import annotations

from typing import Any, Protocol


class Channel(Protocol):
    """Two ways: a worker receives tasks, and sends stages and rows. A pipe of multiprocessing is one."""

    def poll(self) -> bool:
        """Whether a task is waiting."""

    def recv(self) -> Any:
        """The next task, or None if there will be no more; waits for it. EOFError if the other side has ended."""

    def send(self, message: Any) -> None:
        """Send ("stage", id, stage) or ("done", id, row)."""
